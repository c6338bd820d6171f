"""How good a reward model is: on thumbs without noise, on pairs, and on probes that nobody should fall for."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation import statistics
from rlhf_ray.evaluation.bag_of_words import BagOfWords
from rlhf_ray.evaluation.calibration import calibration_bins, calibration_error
from rlhf_ray.evaluation.pairs import Score, prefers_chosen, sides

Facts = dict[str, Any]

# What a reward model is chosen by: it must rank, and must not be fooled; that its probabilities are honest, and that
# no length pleases it, counts for less.
BLEND = {"ranking": 0.4, "probes": 0.4, "calibration": 0.1, "length": 0.1}


def measure(
    score: Score,
    heldout: list[Row],
    pairs: Sequence[Row] = (),
    probes: Sequence[Row] = (),
    thumbs: list[Row] | None = None,
) -> Facts:
    """Everything that is known of a reward model; what cannot be known of the rows that there are is None.

    `score` gives the raw log-odds of a thumb up. `heldout` has `prompt, completion, label` and perhaps `kind`, `pairs`
    have `prompt, chosen, rejected`, `probes` a name `probe` more. With `thumbs` of both labels it is also measured what
    counting their words achieves.
    """
    counting = BagOfWords(thumbs) if thumbs and len({row["label"] for row in thumbs}) > 1 else None
    judged = heldout or sides(list(pairs))
    raw = np.array(score(judged))
    by_probe = _probe_accuracies(score, probes, counting)
    return (
        _on_thumbs(heldout, raw[: len(heldout)])
        | _by_kind(heldout, raw[: len(heldout)])
        | {
            "length_correlation": _length_correlation(judged, raw),
            "pairs": _on_pairs(score, list(pairs)),
            "probes": by_probe,
            "probes_mean": _mean([found["mean"] for found in by_probe.values()]),
            "bag_of_words_accuracy": counting.accuracy(heldout) if counting and heldout else None,
        }
    )


def objective(metrics: Facts) -> float:
    """What a search for settings maximises, in [0, 1]: the mean of what was measured, weighted as BLEND says.

    Ranking is the AUC, or the accuracy on pairs where there are no thumbs; probes the mean of their accuracies;
    calibration one minus the expected calibration error; length one minus the correlation of score and length, up or
    down, within each label. What was not measured has no weight. Raises ValueError where nothing ranks.
    """
    ranking = metrics["auc"]
    if ranking is None and metrics["pairs"]:
        ranking = metrics["pairs"]["accuracy"]["mean"]
    if ranking is None:
        raise ValueError("expected held-out thumbs of both labels, or held-out pairs, got neither")
    error, bias = metrics["calibration_error"], metrics["length_correlation"]["within_label"]
    parts = {
        "ranking": ranking,
        "probes": metrics["probes_mean"],
        "calibration": None if error is None else 1 - error,
        "length": 1 - abs(bias),
    }
    known = {name: value for name, value in parts.items() if value is not None}
    return sum(BLEND[name] * value for name, value in known.items()) / sum(BLEND[name] for name in known)


def _on_thumbs(rows: list[Row], raw: np.ndarray) -> Facts:
    """How well single thumbs are foretold."""
    labels = np.array([row["label"] for row in rows], dtype=bool)
    bins = calibration_bins(expit(raw), labels)
    auc = statistics.auc(labels, raw)
    return {
        "rows": len(rows),
        "thumbs_up_share": _mean(labels),
        "accuracy": statistics.mean((raw > 0) == labels) if rows else None,
        "auc": auc["mean"] if auc else None,
        "auc_interval": auc,
        "calibration_error": calibration_error(bins) if rows else None,
        "calibration": bins,
    }


def _by_kind(rows: list[Row], raw: np.ndarray) -> Facts:
    """Accuracy and score of every kind of completion, where rows have a kind."""
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row, score in zip(rows, raw, strict=True):
        if row.get("kind"):
            found[row["kind"]].append((float(score), (score > 0) == row["label"]))
    accuracy, scores = {}, {}
    for kind, known in sorted(found.items()):
        of_kind, right = zip(*known, strict=True)
        accuracy[kind] = {"rows": len(known), "accuracy": float(np.mean(right))}
        scores[kind] = {"rows": len(known), "mean": float(np.mean(of_kind)), "std": float(np.std(of_kind))}
    return {"accuracy_by_kind": accuracy, "score_by_kind": scores}


def _length_correlation(rows: list[Row], raw: np.ndarray) -> dict[str, float]:
    """Of score and words, over all rows, and after both lost the mean of their label: what quality does not explain."""
    lengths = np.array([len(row["completion"].split()) for row in rows], dtype=float)
    labels = np.array([row["label"] for row in rows], dtype=bool)
    return {
        "all": _correlation(raw, lengths),
        "within_label": _correlation(_without_means(raw, labels), _without_means(lengths, labels)),
    }


def _without_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    left = values.copy()
    for label in np.unique(labels):
        left[labels == label] -= values[labels == label].mean()
    return left


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where either is always the same, but for rounding."""
    if len(one) < 2 or min(np.ptp(one), np.ptp(other)) < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _on_pairs(score: Score, pairs: list[Row]) -> Facts | None:
    return {"rows": len(pairs), "accuracy": statistics.mean(prefers_chosen(score, pairs))} if pairs else None


def _probe_accuracies(score: Score, probes: Sequence[Row], counting: BagOfWords | None) -> dict[str, Facts]:
    """Of each probe the pairs, the share ranked right with its interval, and what counting words achieves."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in probes:
        by_name[row["probe"]].append(row)
    return {
        name: {"pairs": len(rows)}
        | statistics.mean(prefers_chosen(score, rows))
        | {"bag_of_words": counting.accuracy_on_pairs(rows) if counting else None}
        for name, rows in by_name.items()
    }


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
