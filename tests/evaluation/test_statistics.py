"""Intervals hold their mean, shrink with more data, and a win rate counts what differs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rlhf_ray.evaluation.statistics import auc, mean, paired_difference, win_rate


def test_the_interval_holds_the_mean_and_most_often_the_truth():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        interval = mean(rng.normal(3.0, 2.0, size=80))
        assert interval["low"] <= interval["mean"] <= interval["high"]
        held += interval["low"] <= 3.0 <= interval["high"]
    assert held >= 50  # 95 % of 60 is 57; fewer than 50 happens less than once in ten thousand


def test_more_data_narrows_the_interval():
    values = np.random.default_rng(2).normal(size=1600)
    few, many = mean(values[:100]), mean(values)
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_pairing_takes_out_what_both_sides_share():
    rng = np.random.default_rng(3)
    before = rng.normal(0, 10, size=100)
    after = before + 0.5 + rng.normal(0, 0.1, size=100)
    difference = paired_difference(before, after)
    assert 0.4 < difference["low"] < 0.5 < difference["high"] < 0.6


def test_ties_are_counted_apart():
    wins = win_rate([0, 0, 0, 1, 1], [1, 1, 0, 1, 0])
    assert (wins["wins"], wins["losses"], wins["ties"]) == (2, 1, 2)
    assert wins["mean"] == pytest.approx(2 / 3)


def test_where_all_tie_there_is_no_rate():
    assert win_rate([1, 1], [1, 1])["mean"] is None


def test_nothing_has_no_mean():
    with pytest.raises(ValueError, match="at least one value"):
        mean([])


def test_sides_of_different_length_are_refused():
    with pytest.raises(ValueError, match="argument"):
        paired_difference([1.0], [1.0, 2.0])


def test_auc_is_scikit_learns_also_with_ties() -> None:
    rng = np.random.default_rng(5)
    labels, scores = rng.random(300) < 0.3, rng.integers(0, 12, 300) / 4
    found = auc(labels, scores)
    assert found is not None
    assert found["mean"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["low"] < found["mean"] < found["high"]
    assert auc(labels, 3 * scores - 7) == found


def test_auc_of_one_label_is_unknown() -> None:
    assert auc([True, True], [0.1, 0.2]) is None
    assert auc([], []) is None
