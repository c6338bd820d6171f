"""Ratings as thumbs and as pairs."""

from collections import defaultdict
from itertools import combinations
from statistics import fmean

from rlhf_ray.data.tables import Row

UP_FROM, DOWN_TO = 4, 2
ALL_AGAINST_ALL = 12  # completions of one prompt; of more, each is held against one other, or pairs would be too many


def thumbs_of(ratings: list[Row]) -> list[Row]:
    """`prompt, completion, label, …` of the ratings that like or dislike; those between do neither."""
    return [_without_stars(row) | {"label": row["rating"] >= UP_FROM} for row in ratings if _takes_sides(row)]


def pairs_of(ratings: list[Row]) -> list[Row]:
    """`prompt, chosen, rejected, margin, …` of completions of one prompt whose mean ratings differ, by how much."""
    ratings_of: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in ratings:
        ratings_of[row["prompt"]][row["completion"]].append(row)
    pairs = []
    for prompt, completions in ratings_of.items():
        means = {said: fmean(row["rating"] for row in rows) for said, rows in completions.items()}
        for one, other in _opponents(sorted(means, key=lambda said: -means[said])):
            if means[one] > means[other]:
                raters = {row["rater"] for said in (one, other) for row in completions[said]}
                origin = {"rater": raters.pop() if len(raters) == 1 else None, "created_at": None}
                margin = means[one] - means[other]
                pairs.append({"prompt": prompt, "chosen": one, "rejected": other, "margin": margin} | origin)
    return pairs


def says_nothing(rating: Row, pairs: set[tuple[str, str]]) -> bool:
    """Whether a rating is no thumb and its (prompt, completion) stands in no pair."""
    return not _takes_sides(rating) and (rating["prompt"], rating["completion"]) not in pairs


def _opponents(best_first: list[str]) -> list[tuple[str, str]]:
    if len(best_first) <= ALL_AGAINST_ALL:
        return list(combinations(best_first, 2))
    half = len(best_first) // 2
    return list(zip(best_first[: len(best_first) - half], best_first[half:], strict=True))


def _takes_sides(row: Row) -> bool:
    return not DOWN_TO < row["rating"] < UP_FROM


def _without_stars(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "rating"}
