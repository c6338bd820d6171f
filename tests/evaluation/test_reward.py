"""A reward model's measures: perfect, blind, overconfident, in love with length, and what a search makes of them."""

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation.reward import measure, objective

Score = Callable[[list[Row]], list[float]]


def make_thumbs(count: int, seed: int) -> list[Row]:
    """Right and wrong statements of the same lengths."""
    rng = Random(seed)
    rows = []
    for number in range(count):
        right = number % 2 == 0
        said = " ".join(["right" if right else "wrong", *["word"] * rng.randint(3, 20)])
        rows.append({"prompt": "p", "completion": said, "label": right, "kind": "good" if right else "vague"})
    return rows


THUMBS = make_thumbs(200, 0)
PAIRS = [{"prompt": "p", "chosen": "right", "rejected": "wrong"}] * 3
PROBES = [
    *[{"probe": "longer", "prompt": "p", "chosen": "right a", "rejected": "wrong a b"}] * 4,
    *[{"probe": "shorter", "prompt": "p", "chosen": "right a b", "rejected": "wrong a"}] * 4,
]


def perfect(rows: list[Row]) -> list[float]:
    return [8.0 if "right" in row["completion"] else -8.0 for row in rows]


def blind(rows: list[Row]) -> list[float]:
    return [0.0] * len(rows)


def counts_length(rows: list[Row]) -> list[float]:
    return [float(len(row["completion"].split())) for row in rows]


def sure(log_odds: float) -> Score:
    return lambda rows: [log_odds] * len(rows)


def test_a_perfect_model() -> None:
    found = measure(perfect, THUMBS, PAIRS, PROBES)
    assert found["accuracy"]["mean"] == found["auc"] == found["auc_interval"]["low"] == 1.0
    assert found["calibration_error"] < 0.001
    assert found["accuracy_by_kind"] == {
        "good": {"rows": 100, "accuracy": 1.0},
        "vague": {"rows": 100, "accuracy": 1.0},
    }
    assert found["score_by_kind"]["vague"] == {"rows": 100, "mean": -8.0, "std": 0.0}
    assert found["pairs"] == {"rows": 3, "accuracy": {"mean": 1.0, "low": 1.0, "high": 1.0}}
    assert found["probes_mean"] == 1.0
    assert found["length_correlation"]["within_label"] == 0.0
    assert abs(found["length_correlation"]["all"]) < 0.2
    assert objective(found) > 0.99


def test_a_blind_model_is_calibrated_and_useless() -> None:
    found = measure(blind, THUMBS, PAIRS, PROBES)
    assert found["auc"] == found["pairs"]["accuracy"]["mean"] == found["probes_mean"] == 0.5
    assert found["calibration_error"] == pytest.approx(0.0)
    assert found["length_correlation"] == {"all": 0.0, "within_label": 0.0}


def test_a_model_that_counts_length_fails_probes_and_is_found_out() -> None:
    found = measure(counts_length, THUMBS, probes=PROBES)
    assert found["length_correlation"]["all"] == pytest.approx(1.0)
    assert found["length_correlation"]["within_label"] == pytest.approx(1.0)
    assert {name: probe["mean"] for name, probe in found["probes"].items()} == {"longer": 0.0, "shorter": 1.0}
    assert found["probes_mean"] == 0.5
    assert objective(found) < objective(measure(perfect, THUMBS, probes=PROBES)) - 0.3


def test_longer_answers_that_are_better_make_no_bias_of_a_model_that_sees_the_better() -> None:
    rows = [row for row in THUMBS if (len(row["completion"].split()) > 10) == row["label"]]
    correlation = measure(perfect, rows)["length_correlation"]
    assert correlation["all"] > 0.7
    assert correlation["within_label"] == 0.0


def test_a_model_that_is_surer_than_right_is_badly_calibrated() -> None:
    rows = [{"prompt": "p", "completion": "said", "label": i % 4 != 0} for i in range(100)]  # 75 % up
    errors = {odds: measure(sure(math.log(odds)), rows)["calibration_error"] for odds in (3, 9, 99)}
    assert errors[3] == pytest.approx(0.0)
    assert errors[9] == pytest.approx(0.15)
    assert errors[99] == pytest.approx(0.24)


def test_the_bins_hold_every_row_and_what_was_stated_and_seen() -> None:
    rng = Random(1)
    scores = {row["completion"]: rng.gauss(0, 3) for row in THUMBS}
    bins = measure(lambda rows: [scores[row["completion"]] for row in rows], THUMBS)["calibration"]
    assert sum(part["rows"] for part in bins) == len(THUMBS)
    for part in bins:
        assert 0 <= part["low"] <= part["stated"] <= part["high"] <= 1
        assert 0 <= part["seen"] <= 1


def test_intervals_hold_the_figure_and_narrow_with_rows() -> None:
    def noisy(rows: list[Row]) -> list[float]:
        rng = Random(2)
        return [(1.0 if row["label"] else -1.0) + rng.gauss(0, 1.5) for row in rows]

    few, many = (measure(noisy, make_thumbs(count, 3)) for count in (40, 1000))
    for found in (few, many):
        assert (
            found["auc_interval"]["low"] < found["auc"] == found["auc_interval"]["mean"] < found["auc_interval"]["high"]
        )
    widths = [found["auc_interval"]["high"] - found["auc_interval"]["low"] for found in (few, many)]
    assert widths[1] < widths[0] / 3


def test_counting_words_is_measured_beside_the_model() -> None:
    easy = [{"probe": "easy", "prompt": "p", "chosen": "right word", "rejected": "wrong word"}] * 2
    hard = [{"probe": "hard", "prompt": "p", "chosen": "right word word", "rejected": "word right word"}] * 2
    found = measure(blind, THUMBS, probes=easy + hard, thumbs=make_thumbs(100, 9))
    assert {name: probe["bag_of_words"] for name, probe in found["probes"].items()} == {"easy": 1.0, "hard": 0.5}
    assert found["bag_of_words_accuracy"] == 1.0
    assert measure(blind, THUMBS, probes=easy)["probes"]["easy"]["bag_of_words"] is None


def test_completions_without_words_can_be_counted() -> None:
    emoji = [{"prompt": "p", "completion": "👍" if up else "👎", "label": up} for up in (True, False)] * 5
    assert measure(blind, emoji, thumbs=emoji)["bag_of_words_accuracy"] == 0.5


NOTHING: dict[str, Any] = {"rows": 0, "accuracy": None, "auc": None, "calibration_error": None, "calibration": []}


def test_pairs_alone_are_enough() -> None:
    found = measure(perfect, [], PAIRS)
    assert NOTHING.items() <= found.items()
    assert found["accuracy_by_kind"] == found["score_by_kind"] == found["probes"] == {}
    assert found["probes_mean"] is found["bag_of_words_accuracy"] is None
    assert objective(found) == 1.0
    assert objective(measure(blind, [], PAIRS)) == pytest.approx((0.4 * 0.5 + 0.1 * 1) / 0.5)


def test_thumbs_of_one_kind_have_an_accuracy_and_no_auc() -> None:
    found = measure(perfect, [row for row in THUMBS if row["label"]])
    assert found["accuracy"]["mean"] == 1.0
    assert found["auc"] is found["auc_interval"] is None
    with pytest.raises(ValueError, match="held-out thumbs of both labels"):
        objective(found)


def test_pairs_beside_thumbs_of_one_kind_are_measured_without_counting_words() -> None:
    ups = [row for row in THUMBS if row["label"]]
    found = measure(perfect, ups, PAIRS, PROBES, thumbs=ups)
    assert found["bag_of_words_accuracy"] is found["probes"]["longer"]["bag_of_words"] is None
    assert found["pairs"]["accuracy"]["mean"] == 1.0


def test_thumbs_without_a_kind_are_measured_without_kinds() -> None:
    assert measure(perfect, [row | {"kind": None} for row in THUMBS])["accuracy_by_kind"] == {}


@pytest.mark.parametrize("heldout", [THUMBS, THUMBS[:1], []])
def test_what_is_measured_is_plain_json(heldout: list[Row]) -> None:
    found = measure(perfect, heldout, PAIRS, PROBES, make_thumbs(20, 1))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_each_part_of_the_objective_raises_it() -> None:
    middling = {"auc": 0.9, "probes_mean": 0.8, "calibration_error": 0.1, "length_correlation": {"within_label": -0.3}}
    better = [
        {"auc": 0.95},
        {"probes_mean": 0.9},
        {"calibration_error": 0.05},
        {"length_correlation": {"within_label": 0.1}},
    ]
    assert objective(middling) == pytest.approx(0.4 * 0.9 + 0.4 * 0.8 + 0.1 * 0.9 + 0.1 * 0.7)
    assert all(objective(middling | one) > objective(middling) for one in better)
