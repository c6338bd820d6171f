"""Entries that say something, and ledgers that hold them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.feedback.entries import Completion, Vote
from rlhf_ray.feedback.ledger import Ledger

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def completion(number: int = 0, **other: Any) -> Completion:
    facts: dict[str, Any] = {
        "completion_id": f"c{number}",
        "prompt": f"why {number}?",
        "completion": f"the pool leaked {number} times 🙂",
        "token_ids": [3, 1, 2],
        "logprobs": [-0.1, -2.5, -1 / 3],
        "model_version": "run-1",
        "model_digest": "ab" * 32,
        "sampling": {"temperature": 0.7, "top_p": None, "stop": ["\n"], "max_tokens": 64, "greedy": False},
        "seed": 7,
        "arm": "tuned",
        "score": 0.25,
        "time": NOON,
    }
    return Completion(**facts | other)


def vote(number: int, *, seconds: float = 0, **other: Any) -> Vote:
    facts: dict[str, Any] = {
        "vote_id": f"v{number}",
        "completion_id": "c0",
        "person": "ada",
        "label": 1,
        "time": NOON + timedelta(seconds=seconds),
    }
    return Vote(**facts | other)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """One that has the completions c0 to c3."""
    with Ledger.open(folder, "r0") as opened:
        opened.append_all(completion(number) for number in range(4))
        yield opened


@pytest.fixture
def ids() -> Callable[[list[dict[str, Any]]], list[str]]:
    return lambda rows: [row["vote_id"] for row in rows]
