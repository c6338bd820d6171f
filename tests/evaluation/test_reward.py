"""A reward model's measures: perfect, blind, overconfident."""

import math

import pytest

from rlhf_ray.evaluation.reward import measure

ROWS = [{"label": i % 2 == 0, "kind": "good" if i % 2 == 0 else "vague"} for i in range(200)]


def test_a_perfect_model():
    found = measure(ROWS, [8.0 if row["label"] else -8.0 for row in ROWS])
    assert found["accuracy"]["mean"] == found["auc"] == 1.0
    assert found["calibration_error"] < 0.001
    assert found["accuracy_by_kind"] == {
        "good": {"rows": 100, "accuracy": 1.0},
        "vague": {"rows": 100, "accuracy": 1.0},
    }


def test_a_blind_model_is_calibrated_and_useless():
    found = measure(ROWS, [0.0] * len(ROWS))
    assert found["auc"] == 0.5
    assert found["calibration_error"] == pytest.approx(0.0)


def test_a_model_that_is_surer_than_right_is_badly_calibrated():
    rows = [{"label": i % 4 != 0, "kind": "sample"} for i in range(100)]  # 75 % up
    found = measure(rows, [math.log(0.99 / 0.01)] * 100)
    assert found["calibration_error"] == pytest.approx(0.24)
