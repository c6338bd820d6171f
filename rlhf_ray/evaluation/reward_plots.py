"""The plots of a reward model: whether its probabilities are honest, and how it scores each kind of completion."""

from typing import Any

from markupsafe import Markup
from matplotlib.ticker import PercentFormatter

from rlhf_ray.evaluation.drawing import INK, REWARD, figure, inline

Facts = dict[str, Any]


def plot_reliability(bins: list[Facts]) -> Markup | None:
    """The share of thumbs up over the stated chance, a dot a bin, larger with more rows; None where there are none."""
    if not bins:
        return None
    rows = sum(part["rows"] for part in bins)
    with figure((3.4, 3.2)) as (drawn, axes):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        stated, seen = ([part[name] for part in bins] for name in ("stated", "seen"))
        sizes = [12 + 160 * part["rows"] / rows for part in bins]
        axes.scatter(stated, seen, s=sizes, color=REWARD, zorder=3)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="stated chance of a thumb up", ylabel="thumbs up")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        said = "; ".join(f"stated {part['stated']:.2f}, seen {part['seen']:.2f} of {part['rows']}" for part in bins)
        return inline(drawn, "reliability", f"Stated chance of a thumb up against the share seen: {said}.")


def plot_scores_by_kind(kinds: dict[str, Facts]) -> Markup | None:
    """Mean and standard deviation of the log-odds of each kind, best first; None where there are none."""
    if not kinds:
        return None
    ordered = sorted(kinds.items(), key=lambda kind: -kind[1]["mean"])
    with figure((5.2, 0.8 + 0.24 * len(ordered))) as (drawn, axes):
        places = range(len(ordered))
        means, stds = ([found[name] for _, found in ordered] for name in ("mean", "std"))
        axes.axvline(0, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.errorbar(means, places, xerr=stds, fmt="o", color=REWARD, markersize=4.5, linewidth=1.4)
        axes.set_yticks(places, [name.replace("_", " ") for name, _ in ordered])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
        axes.set_xlabel("log-odds of a thumb up")
        axes.grid(axis="y", visible=False)
        return inline(drawn, "kinds", "Mean score of each kind of completion, with its standard deviation.")
