"""The reward model's card says what was measured, whatever that was."""

from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation.cards import write_card
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.runs import RunConfig

THUMBS = [
    {"prompt": "p", "completion": f"said {n}", "label": n % 2 == 0, "kind": "even" if n % 2 == 0 else "odd_one"}
    for n in range(20)
]
PAIRS = [{"prompt": "p", "chosen": "said 2", "rejected": "said 3"}] * 4
SIDES = {"train": {"rows": 7, "prompts": 5}, "heldout": {"rows": 3, "prompts": 2}}
DATA = {"thumbs": SIDES, "pairs": SIDES, "warnings": ["few rows"]}
PROBES = [row | {"probe": "made_up"} for row in PAIRS]


def score(rows: list[Row]) -> list[float]:
    return [3.0 if int(row["completion"].split()[1]) % 2 == 0 else -3.0 for row in rows]


def card(folder: Path, metrics: dict[str, Any]) -> str:
    summary = {"base": "shipped", "seed": 0, "reward_model": metrics, "versions": {"rlhf-ray": "0.1.0"}}
    write_card(folder, "reward_card.md", summary=summary, config=RunConfig(), data=DATA, lineage={"base": "ab12"})
    return (folder / "README.md").read_text(encoding="utf-8")


def test_everything_that_was_measured_is_on_the_card(tmp_path: Path) -> None:
    said = card(tmp_path, measure(score, THUMBS, PAIRS, PROBES, THUMBS))
    for line in (
        "On 20 held-out thumbs (50 % up) and 4 pairs, with 95 % intervals:",
        "| accuracy | 1.000 [1.000, 1.000] |",
        "| AUC | 1.0000 [1.0000, 1.0000] |",
        "| accuracy on pairs | 1.000 [1.000, 1.000] |",
        "| made_up | 4 | 1.000 [1.000, 1.000] | 0.500 |",
        "| 0.9 to 1.0 | 10 | 0.95 | 1.00 |",
        "| odd_one | 10 | 1.000 | -3.00 ± 0.00 |",
        "| thumbs | 7 | 3 |",
        "- few rows",
        "| base | `ab12` |",
    ):
        assert line in said.splitlines(), said


@pytest.mark.parametrize(
    "metrics",
    [measure(score, [], PAIRS), measure(score, THUMBS), measure(score, THUMBS[:1]), measure(score, THUMBS[:1], PAIRS)],
    ids=["pairs", "thumbs", "one thumb", "one thumb and pairs"],
)
def test_what_was_not_measured_is_not_claimed(tmp_path: Path, metrics: dict[str, Any]) -> None:
    said = card(tmp_path, metrics)
    assert "None" not in said
    assert "nan" not in said
    assert "Probes" not in said
    lines = said.splitlines()
    for number, line in enumerate(lines):  # a table begins after an empty line, and no row is broken
        assert not line.startswith("|") or line.endswith("|")
        assert not line.startswith("|---") or lines[number - 2] == ""
