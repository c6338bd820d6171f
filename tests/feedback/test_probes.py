"""Probes of anybody's data: what was liked against the same with a damage."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.chat import plain_ids
from rlhf_ray.data.tables import Row, write_table
from rlhf_ray.feedback.probes import PROBE_COLUMNS, general_probes, read_probes

LIKED = [
    {
        "prompt": f"What of number {n}?",
        "completion": f"Number {n} is odd or even. It is {n} more than nothing. Ask me about {n + 1}, too!",
    }
    for n in range(30)
]


def test_a_damage_that_makes_it_too_long_to_read_is_no_probe(tmp_path: Path, tokenizer: Any) -> None:
    rows = general_probes(LIKED, seed=0)
    write_table(tmp_path / "probes.parquet", rows)
    most = max(len(plain_ids(tokenizer, row["prompt"])) + len(plain_ids(tokenizer, row["chosen"])) for row in rows) + 1
    read = read_probes(tmp_path / "probes.parquet", tokenizer, most)
    assert {row["probe"] for row in rows} - {row["probe"] for row in read} == {"repetition"}
    assert read_probes(tmp_path / "probes.parquet", tokenizer, 10**6) == rows
    assert read_probes(tmp_path / "none.parquet", tokenizer, most) == []


def of(name: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["probe"] == name]


def test_every_pair_has_a_liked_completion_and_something_else() -> None:
    rows = general_probes(LIKED, seed=0)
    liked = {(row["prompt"], row["completion"]) for row in LIKED}
    assert Counter(row["probe"] for row in rows) == dict.fromkeys(
        ("keyword_stuffing", "truncation", "repetition", "prompt_swapped"), 30
    )
    for row in rows:
        assert tuple(row) == PROBE_COLUMNS
        assert (row["prompt"], row["chosen"]) in liked
        assert row["rejected"] != row["chosen"]


def test_stuffing_has_the_same_words_in_another_order() -> None:
    for row in of("keyword_stuffing", general_probes(LIKED, seed=1)):
        words = [[word.strip(".,!").lower() for word in row[side].split()] for side in ("chosen", "rejected")]
        assert words[0] != words[1]
        assert Counter(words[0]) == Counter(words[1])
        assert row["rejected"].endswith("!")


def test_truncation_stops_within_a_sentence() -> None:
    for row in of("truncation", general_probes(LIKED, seed=1)):
        assert row["chosen"].startswith(row["rejected"])
        assert row["rejected"][-1] not in ".!"
        assert len(row["rejected"].split()) >= len(row["chosen"].split()) // 3


def test_repetition_says_a_sentence_again() -> None:
    for row in of("repetition", general_probes(LIKED, seed=1)):
        assert row["rejected"].startswith(row["chosen"] + " ")
        assert row["rejected"].removeprefix(row["chosen"] + " ") in row["chosen"]


def test_a_swapped_completion_is_one_that_was_liked_of_another_prompt() -> None:
    rows = of("prompt_swapped", general_probes(LIKED, seed=1))
    assert Counter(row["chosen"] for row in rows) == Counter(row["rejected"] for row in rows)
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_no_probe_is_larger_than_asked_and_the_same_seed_gives_the_same() -> None:
    few = general_probes(LIKED, seed=2, most=7)
    assert max(Counter(row["probe"] for row in few).values()) == 7
    assert few == general_probes(LIKED, seed=2, most=7) != general_probes(LIKED, seed=3, most=7)


@pytest.mark.parametrize(
    "liked",
    [
        [],
        ["ok"],
        ["👍"] * 3,
        ["same same same same same same same"] * 2,
        ["مرحبا بالعالم هذا نص طويل بما يكفي."],
        ["\n\n"],
    ],
)
def test_what_cannot_be_damaged_makes_no_pair_and_no_crash(liked: list[str]) -> None:
    rows = general_probes([{"prompt": "p", "completion": text} for text in liked], seed=0)
    assert all(row["rejected"].lower() != row["chosen"].lower() for row in rows)
    assert not of("prompt_swapped", rows)
