"""How much a thumb weighs: by its label, and by how reliable its rater seems."""

from collections import Counter, defaultdict

import numpy as np
from jaxtyping import Float

from rlhf_ray.data.tables import Row
from rlhf_ray.training.head import regression

FOLDS = 5
PSEUDO_THUMBS = 10  # with which each rater begins, as good as those of all raters together

RaterWeights = dict[str | None, float]


def rater_weights(features: Float[np.ndarray, "N D"], thumbs: list[Row]) -> RaterWeights:
    """What a thumb of each rater weighs, 1 on average over the thumbs; those without a rater count as one rater's.

    A rater is as reliable as he agrees with what a logistic regression on the other thumbs expects, and weighs the
    log-odds of that: nothing where he agrees by chance. All weigh 1 where nobody is better than chance, or where a
    label is too rare to tell.
    """
    from scipy.special import logit  # with the next a second to import, and only this stage needs them
    from sklearn.model_selection import cross_val_predict

    given, labels = Counter(thumb.get("rater") for thumb in thumbs), np.array([thumb["label"] for thumb in thumbs])
    folds = min(FOLDS, labels.sum(), len(labels) - labels.sum())
    if folds < 2:
        return dict.fromkeys(given, 1.0)
    agrees = cross_val_predict(regression(), features, labels, cv=int(folds)) == labels
    agreed: dict[str | None, int] = defaultdict(int)
    for thumb, is_agreed in zip(thumbs, agrees, strict=True):
        agreed[thumb.get("rater")] += int(is_agreed)
    prior = (agrees.sum() + 1) / (len(thumbs) + 2)
    odds = {
        rater: max(0.0, float(logit((agreed[rater] + PSEUDO_THUMBS * prior) / (count + PSEUDO_THUMBS))))
        for rater, count in given.items()
    }
    mean = sum(odds[rater] * count for rater, count in given.items()) / len(thumbs)
    return {rater: weight / mean if mean else 1.0 for rater, weight in odds.items()}


def thumb_weights(thumbs: list[Row], raters: RaterWeights, balance_labels: bool) -> list[float]:
    """The weight of each thumb: its rater's, 1 where `raters` names none; balanced, both labels weigh the same."""
    weights = [raters.get(thumb.get("rater"), 1.0) for thumb in thumbs]
    of_label = {
        label: sum(weight for thumb, weight in zip(thumbs, weights, strict=True) if thumb["label"] == label)
        for label in (True, False)
    }
    if not (balance_labels and all(of_label.values())):
        return weights
    return [
        weight * sum(weights) / (2 * of_label[thumb["label"]]) for thumb, weight in zip(thumbs, weights, strict=True)
    ]
