"""Every shell and Python block of README and docs runs, or says why not; whatever it asks of a config is a config's."""

import json
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_ray.config import load
from rlhf_ray.runs import RunConfig
from tests.architectures import gpt2
from tests.docs.blocks import RUN, SHOWN, Block, Reader, blocks_of

ROOT = Path(__file__).parent.parent.parent
FIRST = ROOT / "docs" / "quickstart.md"  # makes the run that all other pages speak of
OTHERS = sorted(path for path in (ROOT / "docs").glob("*.md") if path != FIRST)
PAGES = [FIRST, ROOT / "README.md", *OTHERS, ROOT / "benchmarks" / "README.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(page, ROOT)]
OWN = "docs/your-own-data.md"
JOB = re.compile(r"\S*python -m jobs\.(\w+) (.*?)(?: 2>&1.*)?$")
WITHOUT_RUN = {"serve", "pretrain", "issue_key", "import_feedback", "export_feedback", "promote", "rollback", "improve"}
IMPORT = "python -m jobs.import_feedback vote.jsonl ledger"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_is_of_a_known_kind(block: Block) -> None:
    assert block.language in (*RUN, *SHOWN), "a shell's block is called bash, so that it is run"
    assert not (block.ready and block.language != "bash")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_is_overlooked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^(?:[ \t>]+```|\s*~~~)", text, re.MULTILINE), "a fence begins its line, with backticks"
    assert text.count("\n```") == 2 * len(blocks_of(page, ROOT))


def commands() -> Iterator[tuple[Block, str]]:
    """What pages say of jobs that read a run's config, line by line."""
    for block in BLOCKS:
        for line in block.text.replace("\\\n", " ").splitlines() if block.language == "bash" else ():
            if (found := JOB.search(line)) and found[1] not in WITHOUT_RUN:
                yield block, found[2]


@pytest.mark.parametrize(("block", "words"), list(commands()), ids=lambda each: getattr(each, "name", each))
def test_a_command_line_is_one_that_the_config_takes(block: Block, words: str) -> None:
    config, *overrides = shlex.split(words, comments=True)
    if (ROOT / config).is_file():  # others are written by the page itself, and run
        assert load(RunConfig, ROOT / config, overrides)
    else:
        assert block.page == OWN, block.name


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a reader has cloned, with an environment that is made."""
    for name in ("rlhf_ray", "jobs", "serve", "configs", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def open_port(port: int) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), f"pages speak of port {port}, which somebody listens at"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_readme_and_docs_say_works_in_a_clone(clone: Path) -> None:
    open_port(8000)
    vote = {"prompt": "Why?", "completion": "A leak.", "label": True, "rater": "anna"}
    (clone / "vote.jsonl").write_text(json.dumps(vote), encoding="utf-8")
    with Reader(clone) as reader:
        reader.follow([Block("a ledger that has been served", 0, "bash", IMPORT, None, None)])
        reader.follow([block for block in BLOCKS if block.page != OWN])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thumbs_of_ones_own_become_a_served_model_word_for_word(clone: Path) -> None:
    open_port(8000)
    gpt2(clone / "models" / "base")  # what the page fetches from the hub
    with Reader(clone) as reader:
        reader.follow([block for block in BLOCKS if block.page == OWN])
