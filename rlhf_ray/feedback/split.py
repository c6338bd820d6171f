"""Two sides of a data set, one to learn from and one to measure on: a prompt is on one of them with all its rows."""

from collections.abc import Collection

from rlhf_ray.data.tables import Row
from rlhf_ray.seeds import derive


def choose_heldout(prompts: Collection[str], share: float, seed: int) -> set[str]:
    """About `share` of the prompts, each chosen for itself: others that come or go do not move it.

    Near-copies stay together. Neither side is empty where there are two prompts that differ.
    """
    places = {prompt: derive(seed, "heldout", plain(prompt)) / 2**63 for prompt in prompts}
    lowest, highest = min(places.values(), default=0.0), max(places.values(), default=0.0)
    if lowest == highest:
        return set()
    return {prompt for prompt, place in places.items() if place < highest and (place < share or place == lowest)}


def split(rows: list[Row], heldout: set[str]) -> tuple[list[Row], list[Row]]:
    """The rows whose prompts are not held out, and those whose prompts are."""
    return [row for row in rows if row["prompt"] not in heldout], [row for row in rows if row["prompt"] in heldout]


def plain(text: str) -> str:
    """What near-copies of a text have in common: its words in lower case."""
    return " ".join(text.lower().split())
