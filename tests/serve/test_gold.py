"""A reward model that judges the gold worse than the one that is served is not promoted; back one may always go."""

import asyncio
import json
from pathlib import Path

import pytest

from rlhf_ray.config import BadInput
from tests.serve.conftest import JUDGING
from tests.serve.house import House, serving
from tests.serve.runs import PROMPTS, save_runs

from serve.app import gold_of, versions_of
from serve.artefact import artefact_of_run
from serve.errors import Refused
from serve.reward import Reward
from serve.verdicts import Pair, Verdict

TEXTS = [" the quick", " pack my", " jumps over"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, policy_folder: str) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), policy_folder, 2)


def write_gold(path: Path, run: Path) -> Path:
    """What the run's reward model thinks: a pair of the best and the worst answer to each prompt."""
    reward, rows = Reward(artefact_of_run(run, "reward"), JUDGING), []
    for prompt in PROMPTS:
        said = zip(reward.judge([Pair(prompt, text) for text in TEXTS]), TEXTS, strict=True)
        scores = sorted((verdict.score, text) for verdict, text in said if isinstance(verdict, Verdict))
        rows.append({"prompt": prompt, "chosen": scores[-1][1], "rejected": scores[0][1]})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_who_judges_the_gold_worse_is_not_promoted_and_the_way_back_is_open(runs: Path, tmp_path: Path) -> None:
    versions = tmp_path / "versions.json"
    house = House(serving(runs, versions, gold=str(write_gold(tmp_path / "gold.jsonl", runs / "run-1"))))
    said = r"reward .*: expected it to judge at least 99.0% of the gold rightly, got \d+.\d%; what was served goes on$"
    with pytest.raises(Refused, match=said):
        asyncio.run(house.promotion.promote("run-2", "me", ""))
    assert house.promotion.told()["history"] == []
    house.close()
    house = House(serving(runs, versions, gold=str(write_gold(tmp_path / "gold.jsonl", runs / "run-2"))))
    asyncio.run(house.promotion.promote("run-2", "me", ""))
    assert asyncio.run(house.promotion.rollback("me", "back"))["serving"]["run"] is None, "though it judges worse"
    house.close()


def test_gold_that_cannot_be_read_or_judged_is_said_at_the_start(runs: Path, tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    thumb = {"prompt": "the quick", "completion": " fox", "label": True}
    for text, wrong in (
        ("", "got no usable row"),
        (
            json.dumps(thumb) + "\n" + json.dumps(thumb | {"completion": " fox" * 99}),
            "^gold: row 1 of .*: completion: expected at most",
        ),
    ):
        gold.write_text(text, encoding="utf-8")
        config = serving(runs, "none", gold=str(gold))
        with pytest.raises(BadInput, match=wrong):
            gold_of(config, versions_of(config))
    alone = {"run": "none", "models": {"tuned": str(runs / "run-1" / "sft")}}  # and no reward model
    config = serving(runs, "none", gold=str(gold)).model_copy(update=alone)
    with pytest.raises(BadInput, match=r"^gold: expected a server with a reward model"):
        gold_of(config, versions_of(config))
