"""What was published is there whole, says what it holds, and is told from what was changed since."""

import json
import os
from pathlib import Path

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.durable import appearing, digest, digests, is_whole, publish, read_manifest, write_whole


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A published folder of two files."""
    return published(tmp_path, "hello")


def published(parent: Path, text: str) -> Path:
    workplace = parent / ".work"
    (workplace / "part").mkdir(parents=True)
    (workplace / "part" / "text").write_text(text, encoding="utf-8")
    (workplace / "README.md").write_text("card", encoding="utf-8")
    publish(workplace, parent / "place", {"seconds": 3}, unlisted=["README.md"])
    return parent / "place"


def test_a_published_folder_has_its_facts_and_the_digests_of_its_files(place: Path) -> None:
    assert read_manifest(place) == {"seconds": 3, "files": {"part/text": digest(b"hello")}}
    assert is_whole(place, unlisted=["README.md"])
    assert not (place.parent / ".work").exists()


def test_files_that_are_unlisted_may_change(place: Path) -> None:
    (place / "README.md").write_text("another card", encoding="utf-8")
    assert is_whole(place, unlisted=["README.md"])
    assert not is_whole(place)  # who does not leave it out finds a file too many


def test_a_newer_folder_takes_the_place_of_the_older(place: Path) -> None:
    published(place.parent, "newer")
    assert (place / "part" / "text").read_text(encoding="utf-8") == "newer"
    assert is_whole(place, unlisted=["README.md"])
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_every_flipped_bit_is_noticed(place: Path) -> None:
    file = place / "part" / "text"
    data = file.read_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(changed))
        assert not is_whole(place, unlisted=["README.md"])
    file.write_bytes(data)
    assert is_whole(place, unlisted=["README.md"])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', "null"])
def test_a_damaged_manifest_makes_no_whole_folder(place: Path, text: str) -> None:
    (place / "manifest.json").write_text(text, encoding="utf-8")
    assert not is_whole(place, unlisted=["README.md"])


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest.json: expected a manifest, found none"):
        read_manifest(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "one")
    with pytest.raises(OSError, match="full"), appearing(path) as hidden:
        hidden.write_text("tw", encoding="utf-8")
        raise OSError("full")
    assert path.read_text(encoding="utf-8") == "one"
    assert os.listdir(tmp_path) == ["file"]


def test_the_manifest_is_no_file_of_its_own_list(place: Path) -> None:
    assert "manifest.json" not in digests(place)
    assert json.loads((place / "manifest.json").read_text(encoding="utf-8"))["files"].keys() == {"part/text"}
