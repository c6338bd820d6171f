"""How good a reward model is on thumbs without noise."""

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation import statistics

BINS = 10


def measure(rows: list[Row], logits: list[float]) -> dict[str, Any]:
    """Accuracy (with interval), AUC, calibration error and accuracy by kind of statement.

    `logits` are the raw log-odds of a thumb up. Rows need `label`; `kind` where the last is wanted.
    """
    labels = np.array([row["label"] for row in rows])
    raw = np.array(logits)
    right = (raw > 0) == labels
    by_kind = defaultdict(list)
    for row, correct in zip(rows, right, strict=True):
        by_kind[row["kind"]].append(bool(correct))
    return {
        "rows": len(rows),
        "thumbs_up_share": float(labels.mean()),
        "accuracy": statistics.mean(right),
        "auc": float(roc_auc_score(labels, raw)),
        "calibration_error": _calibration_error(expit(raw), labels),
        "accuracy_by_kind": {
            kind: {"rows": len(found), "accuracy": sum(found) / len(found)} for kind, found in sorted(by_kind.items())
        },
    }


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over ten equal bins: mean distance of stated probability and share of thumbs up."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).mean() * abs(probabilities[bins == b].mean() - labels[bins == b].mean())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))
