"""What is exported comes back as it was, in every form, and what other tools say is kept once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.exports import FORMS, export
from rlhf_ray.feedback.imports import import_votes
from rlhf_ray.feedback.intake import read_feedback
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.snapshots import snapshot

from .conftest import completion, vote
from jobs import export_feedback, import_feedback

ENDINGS = {"jsonl": "jsonl", "label-studio": "json", "open-webui": "json"}


@pytest.fixture
def voted(ledger: Ledger) -> Ledger:
    ledger.append_all(
        [
            vote(1, comment="clear, “quoted”\n and 🙂"),
            vote(2, person="bob", label=-1, seconds=1.5),
            vote(3, completion_id="c1", seconds=0.000001),
            vote(4, completion_id="c1", seconds=2, label=-1),
        ]
    )
    return ledger


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_changes_nothing_however_often(form: str, voted: Ledger, tmp_path: Path) -> None:
    file, votes = tmp_path / f"votes.{ENDINGS[form]}", voted.live_votes()
    assert export(voted.folder, file, form) == len(votes) == 3
    with Ledger.open(tmp_path / "other", "r0") as other:
        for new, known in ((3, 0), (0, 3)):
            done = import_votes(str(file), other)
            assert (done.new, done.known, done.rejected) == (new, known, [])
            assert other.live_votes() == votes
        assert other.completion("c1") == completion(1)
        assert snapshot(other.folder) == snapshot(voted.folder)
        back = import_votes(str(file), voted)
    assert (back.new, back.known) == (0, 3)


@pytest.mark.parametrize("form", FORMS)
def test_two_people_may_have_chosen_the_same_id(form: str, ledger: Ledger, tmp_path: Path) -> None:
    ledger.append_all([vote(1), vote(1, person="bob", label=-1)])
    file = tmp_path / f"votes.{ENDINGS[form]}"
    export(ledger.folder, file, form)
    with Ledger.open(tmp_path / "other", "r0") as other:
        assert import_votes(str(file), other).new == 2
        assert {(row["person"], row["label"]) for row in other.live_votes()} == {("ada", 1), ("bob", -1)}


@pytest.mark.parametrize("form", FORMS)
def test_an_export_is_feedback_that_a_run_can_read(
    form: str, voted: Ledger, tmp_path: Path, plain_tokenizer: Any
) -> None:
    file = tmp_path / f"votes.{ENDINGS[form]}"
    export(voted.folder, file, form)
    columns = ("prompt", "completion", "label", "rater")
    from_export, from_ledger, from_snapshot = (
        sorted(tuple(row[name] for name in columns) for row in read_feedback([source], plain_tokenizer, 500).thumbs)
        for source in (
            str(file),
            str(voted.folder),
            str(voted.folder / "snapshots" / snapshot(voted.folder)),
        )
    )
    assert from_export == from_ledger == from_snapshot
    assert ("why 0?", completion(0).completion, False, "bob") in from_ledger


def test_a_text_that_was_changed_since_is_rejected(voted: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    export(voted.folder, file, "jsonl")
    file.write_text(file.read_text(encoding="utf-8").replace("leaked 0", "burst 0"), encoding="utf-8")
    done = import_votes(str(file), voted)
    assert {row["reason"] for row in done.rejected} == {
        "completion_id: expected the texts that the ledger has of c0, got others"
    }
    assert (done.new, done.known, len(done.rejected)) == (0, 1, 2)


def test_who_judges_anew_in_another_tool_gives_another_vote(voted: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "votes.json"
    export(voted.folder, file, "label-studio")
    tasks = json.loads(file.read_text(encoding="utf-8"))
    for task in tasks:
        for annotation in task["annotations"]:
            annotation["result"][0]["value"]["choices"] = ["👍"]
            annotation["created_at"] = "2026-11-26T08:00:00Z"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    assert import_votes(str(file), voted).new == 2
    assert [row["label"] for row in voted.live_votes()] == [1, 1, 1]
    assert len(voted.history("bob")) == 2


FOREIGN: list[Any] = [
    {"prompt": "Why?", "completion": "The pool leaked.", "label": "up", "user": "eve", "created_at": 1764028800},
    {"prompt": "Why?", "completion": "The pool leaked.", "rating": 2, "user": "bob"},
    {"prompt": "Why?", "completion": "", "label": False},
    {"prompt": [{"role": "user", "content": "Why?"}], "completion": "It works.", "label": 1, "user": "eve"},
    {"prompt": "Why?", "completion": "so so", "rating": 3},
    {"prompt": "Why?", "chosen": "a", "rejected": "b"},
    {"prompt": "Why?", "completion": "\ud800", "label": 1},
    {"prompt": "Why?", "completion": "x" * 200_001, "label": 1},
    {"prompt": "Why?", "completion": "late", "label": 1, "created_at": "yesterday"},
    "no row",
]


def test_votes_of_other_tools_are_kept_once_and_the_others_told_why(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "votes.json"
    file.write_text(json.dumps(FOREIGN), encoding="utf-8")
    for new in (4, 0):
        done = import_votes(str(file), ledger)
        assert (done.new, done.known) == (new, 4 - new)
        assert [(row["row"], row["reason"].split(":")[0]) for row in done.rejected] == [
            (4, "rating"),
            (5, "expected a thumb or a rating, got a pair"),
            (6, "completion"),
            (7, "completion"),
            (8, "created_at"),
            (9, "expected keys and values, got 'no row'"),
        ]
    live = ledger.live_votes()
    assert sorted((row["completion"], row["label"], row["person"][:9]) for row in live) == [
        ("", -1, "anonymous"),
        ("It works.", 1, "eve"),
        ("The pool leaked.", -1, "bob"),
        ("The pool leaked.", 1, "eve"),
    ]
    assert {row["model_version"] for row in live} == {"unknown"}


def test_an_unknown_form_is_named(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="form: expected one of jsonl, label-studio, open-webui, got 'xml'"):
        export(ledger.folder, tmp_path / "votes", "xml")


def test_the_doors_export_and_import(
    voted: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "votes.jsonl", tmp_path / "other"

    def said(work: Callable[[], None], *words: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["job", *map(str, words)])
        work()
        return capsys.readouterr().err

    assert "3 votes" in said(export_feedback.work, voted.folder, file)
    with file.open("a", encoding="utf-8") as more:
        more.write("no row\n")
    told = said(import_feedback.work, file, other)
    assert "3 new votes, 0 known before" in told
    assert "1 rows rejected" in told
    (rejected,) = (other / "rejected").iterdir()
    assert json.loads(rejected.read_text(encoding="utf-8"))["row"] == 3
    assert Reader(other).live_votes() == voted.live_votes()
    for work in (export_feedback.work, import_feedback.work):
        with pytest.raises(BadInput, match="got 1 words"):
            said(work, file)
