"""What votes say, counted by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlhf_ray.evaluation.votes import against_reward, by_model, comparison, over_time

NOON = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)


def vote(label: int = 1, *, hours: float = 0, **other: Any) -> dict[str, Any]:
    facts = {"arm": "tuned", "model_version": "v1", "pair": "", "person": "ada", "probability": None, "judge": "j"}
    return facts | {"label": label, "time": NOON + timedelta(hours=hours)} | other


def test_votes_are_counted_by_the_hour_and_later_by_the_day() -> None:
    votes = [vote(), vote(-1), vote(hours=1), vote(hours=40)]
    told = over_time(votes)
    assert told["unit"] == "hour"
    assert [(point["time"][11:13], point["ups"], point["downs"]) for point in told["points"]] == [
        ("12", 1, 1),
        ("13", 1, 0),
        ("04", 1, 0),
    ]
    told = over_time([*votes, vote(-1, hours=24 * 9)])
    assert told["unit"] == "day"
    assert [(point["ups"], point["downs"]) for point in told["points"]] == [(2, 1), (1, 0), (0, 1)]
    assert over_time([]) == {"unit": "hour", "points": []}


def test_each_version_of_a_model_has_its_share_with_wilsons_interval() -> None:
    votes = [vote()] * 8 + [vote(-1)] * 2 + [vote(model_version="v2")] + [vote(-1, arm="sft")]
    sft, first, second = by_model(votes)
    assert (sft["model"], sft["ups"], sft["share"]) == ("sft", 0, 0)
    assert (first["version"], first["votes"], first["ups"], first["share"]) == ("v1", 10, 8, 0.8)
    assert (first["low"], first["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson 1927, 8 of 10
    assert (second["votes"], second["share"]) == (1, 1)


def test_a_comparison_is_of_pairs_on_both_of_which_a_person_voted() -> None:
    def pair(name: str, tuned: int, sft: int, person: str = "ada") -> list[dict[str, Any]]:
        return [vote(tuned, pair=name, person=person), vote(sft, arm="sft", pair=name, person=person)]

    votes = [*pair("a", 1, -1), *pair("b", 1, -1), *pair("c", -1, 1), *pair("d", 1, 1), *pair("a", -1, 1, "bob")]
    votes += [vote(pair="e"), vote(arm="sft"), vote(-1, pair="f", person="x"), vote(arm="sft", pair="f", person="y")]
    told = comparison(votes, "tuned", "sft")
    assert {name: told[name] for name in ("pairs", "wins", "losses", "ties", "win_rate")} == {
        "pairs": 5,
        "wins": 2,
        "losses": 2,
        "ties": 1,
        "win_rate": 0.5,
    }
    assert comparison([], "tuned", "sft")["win_rate"] is None


def test_votes_are_held_against_what_the_present_reward_model_expected() -> None:
    votes = [vote(probability=0.95), vote(probability=1.0), vote(-1, probability=0.05), vote(-1, probability=0.92)]
    votes += [vote(), vote(-1, probability=0.9, judge="another")]
    told = against_reward(votes, "j")
    assert (told["votes"], told["auc"]) == (4, 1.0)
    assert len(told["bins"]) == 10
    first, last = told["bins"][0], told["bins"][9]
    assert [first[name] for name in ("low", "high", "votes", "ups", "probability", "share")] == [0, 0.1, 1, 0, 0.05, 0]
    assert (last["share"], last["probability"]) == pytest.approx((2 / 3, 2.87 / 3))
    assert (last["share_low"], last["share_high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson, 2 of 3
    assert {told["bins"][5][name] for name in ("probability", "share", "share_low", "share_high")} == {None}
    assert against_reward([vote(probability=0.5)], "j")["auc"] is None, "one label says nothing"
