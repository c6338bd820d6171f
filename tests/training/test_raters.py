"""What a thumb weighs: by its rater and by its label."""

import numpy as np
import pytest

from rlhf_ray.data.tables import Row
from rlhf_ray.training.raters import rater_weights, thumb_weights

CHANCE = np.random.default_rng(0)
FEATURES = CHANCE.normal(size=(300, 5)).astype(np.float32)
RIGHT = FEATURES[:, 0] > 0


def thumbs_by(**wrong: float) -> list[Row]:
    """One thumb a row of FEATURES, raters in turn, each of them wrong with his own probability."""
    names = list(wrong)
    return [
        {"rater": (name := names[row % len(names)]), "label": bool(right ^ (CHANCE.random() < wrong[name]))}
        for row, right in enumerate(RIGHT)
    ]


def test_who_tosses_coins_weighs_less_than_who_is_faithful() -> None:
    thumbs = thumbs_by(faithful=0.0, tired=0.2, tosses=0.5)
    weights = rater_weights(FEATURES, thumbs)
    assert weights["faithful"] > weights["tired"] > weights["tosses"] >= 0
    assert weights["tosses"] < weights["faithful"] / 4
    assert np.mean([weights[thumb["rater"]] for thumb in thumbs]) == pytest.approx(1)


def test_who_is_mostly_wrong_weighs_nothing_and_never_less() -> None:
    assert rater_weights(FEATURES, thumbs_by(first=0.0, second=0.0, contrary=0.9))["contrary"] == 0


def test_who_rated_little_weighs_about_as_much_as_the_others() -> None:
    thumbs = thumbs_by(faithful=0.1)
    thumbs[0] = {"rater": "new", "label": bool(RIGHT[0])}
    thumbs[1] = {"rater": "unlucky", "label": not RIGHT[1]}
    weights = rater_weights(FEATURES, thumbs)
    assert weights["new"] == pytest.approx(weights["faithful"], rel=0.3)
    assert 0 < weights["unlucky"] < weights["faithful"]


def test_all_weigh_the_same_where_nothing_can_be_told() -> None:
    nobody = [{"label": bool(label)} for label in RIGHT]
    assert rater_weights(FEATURES, nobody) == {None: pytest.approx(1)}
    one_down = [{"rater": f"r{row % 3}", "label": row != 0} for row in range(len(FEATURES))]
    assert set(rater_weights(FEATURES, one_down).values()) == {1.0}


def test_balanced_labels_weigh_the_same_also_where_raters_do_not() -> None:
    thumbs = [{"rater": "ann" if row % 3 else "bob", "label": row < 20} for row in range(100)]
    weights = np.array(thumb_weights(thumbs, {"ann": 1.2, "bob": 0.6}, balance_labels=True))
    ups = np.array([thumb["label"] for thumb in thumbs])
    assert weights[ups].sum() == pytest.approx(weights[~ups].sum())
    assert weights[1] / weights[0] == pytest.approx(2)
    assert thumb_weights(thumbs, {}, balance_labels=False) == [1.0] * 100
    assert sum(thumb_weights(thumbs, {}, balance_labels=True)) == pytest.approx(100)
