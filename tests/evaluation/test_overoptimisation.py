"""Best of n has its known expectations, and a reward that parts from the judge shows itself as a fall."""

from itertools import combinations

import numpy as np
import pytest

from rlhf_ray.evaluation.overoptimisation import along_ppo, best_of_n, draw, fall


@pytest.fixture
def score():
    return np.random.default_rng(0).normal(size=(5, 6))


def means(curve, name):
    return [point[name]["mean"] for point in curve]


def test_it_is_the_mean_over_every_choice_of_n(score):
    rubric = np.random.default_rng(1).random(score.shape)
    for point in best_of_n(score, rubric, sizes=(1, 2, 3, 6)):
        choices = list(combinations(range(6), point["n"]))
        best = [[max(choice, key=lambda i, row=row: row[i]) for choice in choices] for row in score]
        assert point["score"]["mean"] == pytest.approx(np.mean([s[b] for s, b in zip(score, best, strict=True)]))
        assert point["rubric"]["mean"] == pytest.approx(np.mean([r[b] for r, b in zip(rubric, best, strict=True)]))


def test_one_of_one_is_the_mean_and_all_of_all_is_the_maximum(score):
    first, last = best_of_n(score, score, sizes=(1, 6))
    assert first["score"]["mean"] == pytest.approx(score.mean())
    assert last["score"]["mean"] == pytest.approx(score.max(axis=1).mean())
    assert first["kl"] == 0.0


def test_the_score_and_the_kl_rise_with_n(score):
    curve = best_of_n(score, score, sizes=(1, 2, 3, 4, 5, 6))
    assert np.all(np.diff(means(curve, "score")) > 0)
    assert np.all(np.diff([point["kl"] for point in curve]) > 0)


def test_a_judge_that_agrees_never_falls_and_one_that_denies_the_best_falls(score):
    assert fall(best_of_n(score, score, sizes=(1, 2, 6)))["fall"] == 0.0
    fooled = np.where(score == score.max(axis=1, keepdims=True), -9.0, score)
    found = fall(best_of_n(score, fooled, sizes=(1, 2, 6)))
    assert found["fall"] > 0
    assert found["best_kl"] < np.log(6) - 5 / 6


def test_ppo_is_drawn_in_windows_of_steps():
    metrics = [
        {"step": s, "objective/kl": float(s), "objective/scores": 2.0 * s, "objective/rubric": 0.1 * s}
        for s in range(1, 8)
    ]
    assert along_ppo(metrics, window=3) == [
        {"step": 3, "kl": 2.0, "score": 4.0, "rubric": pytest.approx(0.2)},
        {"step": 6, "kl": 5.0, "score": 10.0, "rubric": pytest.approx(0.5)},
    ]


def test_the_plot_names_its_curves(score, tmp_path):
    curves = {"best of n": best_of_n(score, score, sizes=(1, 2)), "PPO": [{"kl": 0.0, "score": 1.0, "rubric": 0.5}]}
    draw(curves, tmp_path / "plot.svg")
    assert "best of n" in (tmp_path / "plot.svg").read_text()
