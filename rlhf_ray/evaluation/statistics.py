"""Means, differences and win rates with 95 % bootstrap intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 4000
LEVEL = 0.95

Interval = dict[str, float]


def mean(values: Sequence[float]) -> Interval:
    """`mean` with the percentile interval `low`, `high` of resampled prompts."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("expected at least one value, got none")
    rows = np.random.default_rng(0).integers(0, data.size, size=(RESAMPLES, data.size))
    return {"mean": float(data.mean())} | _percentiles(data[rows].mean(axis=1))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """After minus before, prompt by prompt."""
    return mean([a - b for b, a in zip(before, after, strict=True)])


def win_rate(before: Sequence[float], after: Sequence[float], tie: float = 1e-9) -> dict[str, Any]:
    """Share of the prompts that differ on which after is better; ties are counted apart. `mean` is None if all tie."""
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    decided = differences[np.abs(differences) > tie] > 0
    counts = {"wins": int(decided.sum()), "losses": int((~decided).sum()), "ties": len(differences) - len(decided)}
    return counts | (dict(mean(decided)) if len(decided) else {"mean": None, "low": None, "high": None})


def auc(labels: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> Interval | None:
    """The chance that a thumb up has the higher score than a thumb down, with the interval of resampled rows.

    None where all labels are the same; resamples in which they are do not count.
    """
    ups = np.asarray(labels, dtype=bool)
    if ups.all() or not ups.any():
        return None
    place = np.unique(np.asarray(scores, dtype=float), return_inverse=True)[1]  # equal scores share one
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, ups.size, size=ups.size) for _ in range(RESAMPLES))
    resampled = [_ranked_right(ups[rows], place[rows]) for rows in drawn if 0 < ups[rows].sum() < ups.size]
    return {"mean": _ranked_right(ups, place)} | _percentiles(np.array(resampled))


def _ranked_right(ups: np.ndarray, place: np.ndarray) -> float:
    """The share of couples of an up and a down in which up has the higher place; a tie is half."""
    up, down = (np.bincount(place[side], minlength=place.max() + 1) for side in (ups, ~ups))
    return float((up * (np.cumsum(down) - 0.5 * down)).sum() / (up.sum() * down.sum()))


def _percentiles(resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}
