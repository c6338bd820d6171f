"""Pairs of completions: which of the two a score prefers."""

from collections.abc import Callable

from rlhf_ray.data.tables import Row
from rlhf_ray.text import as_completions

Score = Callable[[list[Row]], list[float]]  # rows of `prompt, completion` in, the log-odds of a thumb up out


def sides(pairs: list[Row]) -> list[Row]:
    """Pairs of `prompt, chosen, rejected` as thumbs: every chosen completion, then every rejected one."""
    return [row | {"label": side == "chosen"} for side in ("chosen", "rejected") for row in as_completions(pairs, side)]


def prefers_chosen(score: Score, pairs: list[Row]) -> list[float]:
    """1 where the chosen completion has the higher score, 0 where it has the lower, and a half for a tie."""
    scores = score(sides(pairs)) if pairs else []
    margins = [chosen - rejected for chosen, rejected in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True)]
    return [0.5 if margin == 0 else float(margin > 0) for margin in margins]
