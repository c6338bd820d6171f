"""The report of a run as one HTML page that needs no network: the template has the words, this module the plots."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rlhf_ray.evaluation.drawing import ALARM, INK, REWARD, RUBRIC, figure, inline
from rlhf_ray.evaluation.reward_plots import plot_reliability, plot_scores_by_kind

Facts = dict[str, Any]
Rows = list[Facts]

REPEATED_LIMIT = 0.2  # share of the causes that one and the same answer may be given to
ENDED_LIMIT = 0.9  # share of the answers that must end by themselves
VARIETY_LIMIT = 0.5  # share of the SFT model's distinct-2 that must be left

# factor, decimals and sign of each unit that `number` writes
UNITS = {"score": (1, 3, ""), "plain": (1, 2, ""), "share": (100, 1, "\u00a0%"), "points": (100, 1, "")}

LARGE = (5.2, 2.9)  # inches
SMALL = (4.0, 2.3)


@dataclass(frozen=True)
class Curve:
    """A figure over PPO steps. The y axis shows at least the values in `span`."""

    key: str
    title: str
    note: str
    span: tuple[float, ...]
    colour: str = INK
    size: tuple[float, float] = SMALL


RUBRIC_KEY = "objective/rubric"
CURVES = (
    Curve("objective/scores", "Reward", "what training sees and raises", (), REWARD, LARGE),
    Curve(RUBRIC_KEY, "Rubric", "by the judge, on the same answers", (0, 1), RUBRIC, LARGE),
    Curve("objective/kl", "KL", "nats an answer, to the SFT model; dashed: the limit", (0,)),
    Curve("objective/entropy", "Entropy", "nats a token; at 0 the model always says the same", (0,)),
    Curve("response/length", "Length", "tokens an answer", (0,)),
    Curve("response/eos_rate", "EOS rate", "share of the answers that end by themselves", (0, 1)),
    Curve("policy/clipfrac_avg", "Clip share", "share of the tokens whose ratio was clipped", (0,)),
    Curve("policy/approxkl_avg", "Approximate KL", "nats a token, of one update", (0,)),
    Curve("val/explained_variance", "Explained variance", "of the returns by the critic; 1 is perfect", (0, 1)),
    Curve("loss/value_avg", "Value loss", "of the critic", (0,)),
    Curve("objective/kl_coef", "KL coefficient", "what one nat of KL costs, in reward", (0,)),
)


def write_page(folder: Path, results: Facts, reward_model: Facts, metrics: Rows, samples: Rows, run: Facts) -> None:
    """Write `index.html` into the folder, which must exist. The same facts give the same bytes.

    `results` come from `compare.conclude`, `reward_model` from `reward.measure`; `metrics` has one dict a PPO step.
    Figures may be None or NaN. A missing key raises KeyError or jinja2.UndefinedError, save in `metrics`.
    """
    judged = results["judged"]
    pages = Environment(loader=PackageLoader("rlhf_ray.evaluation"), undefined=StrictUndefined, autoescape=True)
    pages.filters["number"] = number
    text = pages.get_template("report.html").render(
        results=results,
        verdict=verdict(results["difference"]["rubric" if judged else "score"]),
        alarms=alarms(results),
        limits={"repeated": REPEATED_LIMIT, "ended": ENDED_LIMIT},
        criteria_plot=plot_criteria(results["before"]["criteria"], results["after"]["criteria"]) if judged else None,
        curves=[
            plot_curve(curve, metrics, results["kl_limit"]) for curve in CURVES if judged or curve.key != RUBRIC_KEY
        ],
        reward_model=reward_model,
        reliability_plot=plot_reliability(reward_model["calibration"]),
        kinds_plot=plot_scores_by_kind(reward_model["score_by_kind"]),
        samples=samples,
        run=run,
    )
    (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")


def number(value: float | None, unit: str = "score", signed: bool = False) -> str:
    """A figure in one of UNITS, with a typographic minus; a dash where it is None or not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    factor, decimals, sign = UNITS[unit]
    rounded = round(value * factor, decimals) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:{'+' if signed else ''}.{decimals}f}{sign}".replace("-", "−")


def verdict(difference: Facts) -> str:
    """`rose` or `fell` where the whole 95 % interval lies on one side of zero, else `unclear`."""
    low, high = _finite(difference["low"]), _finite(difference["high"])
    return "rose" if low > 0 else "fell" if high < 0 else "unclear"


def alarms(results: Facts) -> dict[str, bool]:
    """Signs that the reward rose for the wrong reasons, or that text is no longer text. A figure that is NaN is one."""
    before, after, changes = results["before"], results["after"], results["difference"]
    return {
        "unjudged": results["judge_is_reward"],
        "gamed": results["judged"] and verdict(changes["score"]) == "rose" and verdict(changes["rubric"]) != "rose",
        "far": not results["kl_within_limit"],
        "repeated": not _finite(after["most_repeated_share"]) <= REPEATED_LIMIT,
        "endless": not _finite(after["ended"]["mean"]) >= ENDED_LIMIT,
        "monotonous": not _finite(after["distinct_2"]) >= VARIETY_LIMIT * _finite(before["distinct_2"]),
    }


def plot_curve(curve: Curve, points: Rows, kl_limit: float) -> Facts:
    """`curve`, its first and last finite value, and its `plot`, which is None where there is no such value."""
    pairs = [(point["step"], _finite(point.get(curve.key))) for point in points]
    known = [(step, value) for step, value in pairs if math.isfinite(value)]
    if not known:
        return {"curve": curve, "first": None, "last": None, "plot": None}
    (start, first), (stop, last) = known[0], known[-1]
    said = f"{curve.title} over PPO steps: {number(first)} at step {start}, {number(last)} at step {stop}."
    with figure(curve.size) as (drawn, axes):
        # A gap, not a bridge, where a value is missing; dots so that a lone step is seen.
        axes.plot(*zip(*pairs, strict=True), color=curve.colour, linewidth=1.6, marker="o", markersize=2.2)
        if curve.key == "objective/kl":
            axes.axhline(kl_limit, color=ALARM, linewidth=1.2, linestyle=(0, (4, 3)))
            said += f" The limit is {number(kl_limit, 'plain')}."
        axes.update_datalim([(start, bound) for bound in curve.span])
        axes.autoscale_view()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.set_xlabel("PPO step")
        return {
            "curve": curve,
            "first": first,
            "last": last,
            "plot": inline(drawn, curve.key.replace("/", "-"), said),
        }


def plot_criteria(before: Facts, after: Facts) -> Markup:
    """Each criterion's share of answers that meet it with its interval, before (hollow) above after (filled)."""
    with figure((5.2, 0.7 + 0.36 * len(after))) as (drawn, axes):
        for side, shift, colour, face in ((before, -0.16, INK, "none"), (after, 0.16, RUBRIC, RUBRIC)):
            rows = [row + shift for row in range(len(after))]
            found = [[_finite(side[name][part]) for name in after] for part in ("mean", "low", "high")]
            axes.hlines(rows, found[1], found[2], color=colour, linewidth=1.4)
            axes.plot(found[0], rows, "o", color=colour, markerfacecolor=face, markersize=4.5)
        axes.set_yticks(range(len(after)), [name.replace("_", " ") for name in after])
        axes.set_ylim(len(after) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y", visible=False)
        return inline(
            drawn,
            "criteria",
            "Share of answers that meet each criterion, before and after; the table has the numbers.",
        )


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)
