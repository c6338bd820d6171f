"""The space of a search: for each knob of the reward model's training a range or a list of choices."""

from typing import Any

from pydantic import Field

from rlhf_ray.config import BadInput, Config, check
from rlhf_ray.training.reward import RewardTraining


class Range(Config):
    """All numbers from one to another; whole ones where the knob is a whole number."""

    low: float = Field(description="The smallest value.")
    high: float = Field(description="The largest value.")
    log: bool = Field(False, description="As many tries from 0.001 to 0.01 as from 0.01 to 0.1.")


Space = dict[str, Range | list[Any]]

SPACE: Space = {
    "lr": Range(low=5e-5, high=2e-3, log=True),
    "epochs": Range(low=1, high=4),
    "weight_decay": [0.0, 0.01, 0.1],
    "label_smoothing": [0.0, 0.05, 0.1],
    "balance_labels": [False, True],
    "weigh_raters": [False, True],
    "backbone": ["sft", "base"],
}


def check_space(space: Space, default: RewardTraining) -> None:
    """Raises ValueError, naming the key, where it is no knob, a value is none for it, or the default lies outside."""
    for key, values in space.items():
        ends = [values.low, values.high] if isinstance(values, Range) else values
        if not ends:
            raise ValueError(f"search.space.{key}: expected at least one choice, got none")
        for value in ends:
            _check_value(key, value, default)
        if isinstance(values, Range):
            _check_range(key, values)
        begin = getattr(default, key)
        if not (min(ends) <= begin <= max(ends) if isinstance(values, Range) else begin in values):
            raise ValueError(
                f"search.space.{key}: expected to hold reward.{key}, with which the search begins ({begin}), "
                f"got {_said(values)}"
            )


def reachable(space: Space, has_base: bool, has_raters: bool) -> Space:
    """The space without what would change nothing: a base that is the SFT model, weights of raters who have no names.

    A knob that has one choice left is no part of it. Raises BadInput where none is left.
    """
    idle = ({} if has_base else {"backbone": "base"}) | ({} if has_raters else {"weigh_raters": True})
    kept = {
        key: [value for value in values if value != idle[key]] if key in idle and isinstance(values, list) else values
        for key, values in space.items()
    }
    found = {key: values for key, values in kept.items() if isinstance(values, Range) or len(values) > 1}
    if not found:
        raise BadInput(f"search.space: expected a knob that changes something here, got {', '.join(space)}")
    return found


def distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's words."""
    return {key: _distribution(key, values) for key, values in space.items()}


def _distribution(key: str, values: Range | list[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # a second to import

    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if _is_whole(key):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _check_value(key: str, value: Any, default: RewardTraining) -> None:
    whole = _is_whole(key) and isinstance(value, float) and value.is_integer()
    try:
        check(RewardTraining, default.model_dump() | {key: int(value) if whole else value}, "search.space")
    except BadInput as mistake:
        raise ValueError(str(mistake).replace(": ", ".", 1)) from None


def _check_range(key: str, values: Range) -> None:
    if RewardTraining.model_fields[key].annotation not in (int, float):
        raise ValueError(f"search.space.{key}: expected a list of choices, got {_said(values)}")
    if not values.low < values.high:
        raise ValueError(f"search.space.{key}: expected low below high, got {_said(values)}")
    if values.log and values.low <= 0:
        raise ValueError(f"search.space.{key}: expected low above 0 with log, got {_said(values)}")


def _is_whole(key: str) -> bool:
    return key in RewardTraining.model_fields and RewardTraining.model_fields[key].annotation is int


def _said(values: Range | list[Any]) -> str:
    return f"{values.low:g} to {values.high:g}" if isinstance(values, Range) else str(values)
