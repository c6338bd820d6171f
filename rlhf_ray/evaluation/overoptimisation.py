"""Over-optimisation: where what the reward model says and what the judge says part, the further one goes.

Two ways lead away from the SFT model, and both are drawn over the KL that they cost: PPO, step by step, and the best of
n answers by the reward (arXiv:2210.10760). While the reward model is worth following, the rubric rises with the reward;
where it was fooled, the reward goes on rising and the rubric falls.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.special import gammaln

from rlhf_ray.evaluation import statistics
from rlhf_ray.experience import Metrics

SIZES = (1, 2, 4, 8, 16, 32, 64)
FIGURES = ("score", "rubric")

Curve = list[dict[str, Any]]


def best_of_n(
    score: Float[np.ndarray, "P N"], rubric: Float[np.ndarray, "P N"], sizes: tuple[int, ...] = SIZES
) -> Curve:
    """For each n the score and the rubric of the answer with the best score of n, as intervals over the P prompts.

    Of N answers to a prompt every choice of n counts, not one of them: the mean over all choices has no luck in it
    (arXiv:2112.09332, appendix I). `kl` is the bound log n - (n - 1) / n (arXiv:2401.01879), in nats a response.
    """
    order = score.argsort(axis=1)
    ordered = {"score": score, "rubric": rubric}
    ordered = {name: np.take_along_axis(values, order, axis=1) for name, values in ordered.items()}
    curve = []
    for n in sizes:
        chance = _chance_of_best(score.shape[1], n)
        figures = {name: statistics.mean(values @ chance) for name, values in ordered.items()}
        curve.append({"n": n, "kl": math.log(n) - (n - 1) / n} | figures)
    return curve


def along_ppo(metrics: list[Metrics], window: int = 5) -> Curve:
    """KL, score and rubric of PPO's own rollouts, means over `window` steps: one step's 128 answers vary too much."""
    names = {"kl": "objective/kl", "score": "objective/scores", "rubric": "objective/rubric"}
    window = min(window, len(metrics))
    return [
        {"step": part[-1]["step"]} | {name: float(np.mean([m[key] for m in part])) for name, key in names.items()}
        for part in (metrics[start : start + window] for start in range(0, len(metrics) - window + 1, window))
    ]


def fall(curve: Curve) -> dict[str, float]:
    """The rubric's best place on a curve, and how far below it the rubric ends: 0 where nothing was over-optimised."""
    rubric = [_middle(point["rubric"]) for point in curve]
    best = int(np.argmax(rubric))
    return {"best_kl": float(curve[best]["kl"]), "best": rubric[best], "fall": rubric[best] - rubric[-1]}


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Score (above) and rubric (below) of each curve over KL, with intervals where it has any, as an SVG file."""
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    panels = figure.subplots(len(FIGURES), 1, sharex=True)
    for panel, name in zip(panels, FIGURES, strict=True):
        for label, curve in curves.items():
            kl = [point["kl"] for point in curve]
            (drawn,) = panel.plot(kl, [_middle(point[name]) for point in curve], marker="o", markersize=3, label=label)
            if isinstance(curve[0][name], dict):
                low, high = ([point[name][side] for point in curve] for side in ("low", "high"))
                panel.fill_between(kl, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        panel.set_ylabel({"score": "reward model's score", "rubric": "rubric"}[name])
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("KL to the SFT model, nats a response")
    panels[0].legend()
    figure.savefig(path, format="svg", metadata={"Date": None})


def _chance_of_best(count: int, n: int) -> Float[np.ndarray, " N"]:
    """How likely the i-th worst of `count` answers is the best of n drawn without replacement."""
    place = np.arange(1, count + 1)
    return np.where(place >= n, np.exp(_log_choose(place - 1, n - 1) - _log_choose(np.array(count), n)), 0.0)


def _log_choose(total: np.ndarray, chosen: int) -> np.ndarray:
    return gammaln(total + 1) - gammaln(chosen + 1) - gammaln(np.maximum(total - chosen, 0) + 1)


def _middle(figure: float | dict[str, float]) -> float:
    return figure["mean"] if isinstance(figure, dict) else figure
