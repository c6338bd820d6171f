"""Whether a probability is worth what it says: of the thumbs called 80 % likely, 80 % should be up."""

from typing import Any

import numpy as np

BINS = 10


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Equal parts of [0, 1] that hold rows: `low, high, rows`, the mean probability `stated` and the share `seen`."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "rows": int(within.sum()),
            "stated": float(probabilities[within].mean()),
            "seen": float(labels[within].mean()),
        }
        for number in range(BINS)
        if (within := place == number).any()
    ]


def calibration_error(bins: list[dict[str, Any]]) -> float:
    """Expected calibration error (arXiv:1706.04599): mean distance of what is stated from what is seen, by rows."""
    rows = sum(part["rows"] for part in bins)
    return sum(part["rows"] / rows * abs(part["stated"] - part["seen"]) for part in bins)
