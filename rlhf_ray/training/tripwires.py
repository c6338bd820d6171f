"""Tripwires: what goes silently wrong in PPO, noticed while the run is going (each has happened to somebody).

Every wire reads the metrics of all steps so far and nothing else, so a resumed run sees what it would have seen.
Weights that did not arrive, ratios that are not 1, numbers that are not finite and a run that ends short are no wires:
they are errors where they happen, always.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from pydantic import Field

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import Config
from rlhf_ray.experience import Metrics

Action = Literal["stop", "warn", "off"]
FLAT = 1e-6  # standard deviation of scores or advantages below which nothing can be learned
ENTROPY_LEFT = 0.2  # share of the first step's entropy
ENDED = 0.5  # share of the responses that must end by themselves
EMPTY = 2.0  # tokens a response; a mean below says that the policy just ends
REPEATED = 0.3  # share of the prompts that may be given one and the same response
VARIETY_LEFT = 0.5  # share of the first step's distinct-2
WINDOW = 3  # steps whose mean is held against another mean


class Tripwires(Config):
    """What a run does when a wire trips: stop, warn, or nothing."""

    frozen: Action = Field("stop", description="The first update left parameters of the policy unchanged.")
    advantages: Action = Field("stop", description="All scores are the same, or all advantages zero.")
    kl: Action = Field("stop", description="KL to the reference above kl_limit.")
    entropy: Action = Field("stop", description="Entropy below a fifth of what it was: one answer to everything.")
    endings: Action = Field("warn", description="Responses that do not end by themselves, or end at once.")
    repetition: Action = Field("warn", description="The same response again and again, or the same words in it.")
    divergence: Action = Field("warn", description="The reward rises while the judge's rubric falls.")
    kl_limit: float = Field(
        12.0, gt=0, description="KL a response to the SFT model, in nats, that the tuned model must stay below."
    )
    patience: int = Field(3, ge=1, description="Steps in a row in which something is wrong before its wire trips.")


History = Sequence[Metrics]  # the metrics of step 1, step 2, … up to the one that is looked at


@dataclass(frozen=True)
class Wire:
    """Something that can be wrong with the newest step of a history; the limit is that of the KL.

    It trips once it was wrong for as many steps in a row as patience allows, and again after as many more; one that
    is `at_once` does not wait.
    """

    name: str
    is_wrong: Callable[[History, float], bool]
    what: Callable[[History, float], str]
    cause: str
    remedy: str
    at_once: bool = False

    def trips(self, history: History, kl_limit: float, patience: int) -> bool:
        streak = 0
        while streak < len(history) and self.is_wrong(history[: len(history) - streak], kl_limit):
            streak += 1
        return streak > 0 and (self.at_once or streak % patience == 0)


def watch(history: History, tripwires: Tripwires, warn: Callable[[Alarm], None]) -> bool:
    """Look at the newest step. Raises Tripped where a wire that trips says stop.

    Says whether the step is good: no wire that may stop the run finds anything wrong with it, be it for the first time.
    """
    for alarm in alarms(history, tripwires.patience, tripwires.kl_limit):
        action: Action = getattr(tripwires, alarm.name)
        if action == "stop":
            raise Tripped(alarm)
        if action == "warn":
            warn(alarm)
    stopping = [wire for wire in WIRES if getattr(tripwires, wire.name) == "stop"]
    return not any(wire.is_wrong(history, tripwires.kl_limit) for wire in stopping)


def alarms(history: History, patience: int, kl_limit: float) -> list[Alarm]:
    """The wires that trip in the newest step, whatever is to be done about it."""
    tripped = [wire for wire in WIRES if wire.trips(history, kl_limit, patience)]
    return [Alarm(w.name, w.what(history, kl_limit), w.cause, w.remedy, len(history)) for w in tripped]


def _is_flat(metrics: Metrics) -> bool:
    """Whitened advantages are never flat: noise is blown up to their size. So the scores are looked at too."""
    return metrics["objective/advantages_std"] < FLAT or metrics["objective/scores_std"] < FLAT


def _exploited(history: History, kl_limit: float) -> bool:
    """Whether the rubric has fallen from its best while the reward has risen from what it was then.

    Means over a window are compared; a fall counts where it is larger than two standard errors of the newest one.
    """
    if "objective/rubric" not in history[-1] or len(history) < 2 * WINDOW:
        return False
    windows = [history[end - WINDOW : end] for end in range(WINDOW, len(history) + 1)]
    best = max(windows, key=lambda window: _mean(window, "objective/rubric"))
    error = 2 * _mean(windows[-1], "objective/rubric_error") / WINDOW**0.5
    fell = _mean(windows[-1], "objective/rubric") < _mean(best, "objective/rubric") - error
    return fell and _mean(windows[-1], "objective/scores") > _mean(best, "objective/scores")


def _mean(history: History, name: str) -> float:
    return fmean(metrics[name] for metrics in history)


WIRES = (
    Wire(
        "frozen",
        lambda history, _: history[-1].get("policy/changed_share", 1.0) < 1 and not _is_flat(history[-1]),
        lambda history, _: (
            f"the first update changed {history[-1]['policy/changed_share']:.1%} of the policy's tensors"
        ),
        "parameters without a gradient, or a learning rate too small for the precision of the weights",
        "see which parameters require a gradient; raise learning.policy_lr, or train in float32",
        at_once=True,
    ),
    Wire(
        "advantages",
        lambda history, _: _is_flat(history[-1]),
        lambda history, _: "all scores are the same or all advantages zero, so nothing can be learned",
        "a reward model that gives every response the same score, or groups whose responses are all alike",
        "look at objective/scores_std; use another reward model, a higher temperature or larger groups",
    ),
    Wire(
        "kl",
        lambda history, limit: history[-1]["objective/kl"] > limit,
        lambda history, limit: (
            f"KL to the reference is {history[-1]['objective/kl']:.1f} nats a response, above "
            f"tripwires.kl_limit ({limit:g})"
        ),
        "the policy chases the reward model to where that was never trained",
        "raise returns.kl_coef, lower learning.policy_lr, or set returns.kl_target",
    ),
    Wire(
        "entropy",
        lambda history, _: history[-1]["objective/entropy"] < ENTROPY_LEFT * history[0]["objective/entropy"],
        lambda history, _: (
            f"entropy has fallen from {history[0]['objective/entropy']:.3f} to {history[-1]['objective/entropy']:.3f} "
            "nats a token"
        ),
        "the policy has settled on few answers and no longer explores",
        "raise returns.kl_coef or sampling.temperature, or lower learning.policy_lr",
    ),
    Wire(
        "endings",
        lambda history, _: history[-1]["response/eos_rate"] < ENDED or history[-1]["response/length"] < EMPTY,
        lambda history, _: (
            f"{history[-1]['response/eos_rate']:.0%} of the responses end by themselves, after "
            f"{history[-1]['response/length']:.1f} tokens on average"
        ),
        "a reward that goes by length, or a response limit that is too short",
        "look at samples; raise sampling.response_tokens or scoring.missing_eos_penalty",
    ),
    Wire(
        "repetition",
        lambda history, _: (
            history[-1]["response/repeated_share"] > REPEATED
            or history[-1]["response/distinct_2"] < VARIETY_LEFT * history[0]["response/distinct_2"]
        ),
        lambda history, _: (
            f"one response was given to {history[-1]['response/repeated_share']:.0%} of the prompts, and distinct-2 "
            f"went from {history[0]['response/distinct_2']:.2f} to {history[-1]['response/distinct_2']:.2f}"
        ),
        "the policy has found words that the reward model likes whatever was asked",
        "look at samples; raise returns.kl_coef, or give the reward model such answers to learn from",
    ),
    Wire(
        "divergence",
        _exploited,
        lambda history, _: (
            f"over {WINDOW} steps the reward rose to {_mean(history[-WINDOW:], 'objective/scores'):.2f} while the "
            f"rubric fell to {_mean(history[-WINDOW:], 'objective/rubric'):.2f}"
        ),
        "the reward model is being exploited: it likes what the judge does not",
        "use an earlier checkpoint, raise returns.kl_coef, or mend the reward model",
    ),
)
