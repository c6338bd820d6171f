"""Validation: the part of the given thumbs on which the trials of a search are measured."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from rlhf_ray.config import BadInput, Config
from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.feedback.split import plain
from rlhf_ray.feedback.thumbs import good_examples
from rlhf_ray.seeds import derive


class Validated(Config):
    """How much of the given thumbs is held back from the trials, and how much of it they are measured on."""

    share: float = Field(
        0.1, gt=0, le=0.5, description="Share of the thumbs' prompts; the held-out ones stay untouched."
    )
    thumbs: int = Field(400, ge=2, description="Most thumbs that a trial is measured on.")
    pairs: int = Field(400, ge=1, description="Most pairs.")
    probes: int = Field(40, ge=1, description="Most pairs of each probe.")


@dataclass(frozen=True)
class Validation:
    """Thumbs, pairs and probes that no trial learns from."""

    thumbs: list[Row]
    pairs: list[Row]
    probes: list[Row]

    def measure(self, score: Callable[[list[Row]], list[float]]) -> dict[str, Any]:
        return measure(score, self.thumbs, self.pairs, self.probes)

    def counts(self) -> dict[str, int]:
        return {"thumbs": len(self.thumbs), "pairs": len(self.pairs), "probes": len(self.probes)}


def split(lessons: Lessons, probes: list[Row], validated: Validated, seed: int) -> tuple[Lessons, Validation]:
    """What trials learn from, and what they are measured on: no prompt is on both sides, nor a near-copy of one.

    Of the probes those stay whose right completion no trial learns from as one that was liked or chosen.

    Raises BadInput where one of them has neither pairs nor thumbs of both labels.
    """
    asked = {row["prompt"] for row in lessons.thumbs + lessons.pairs}
    prompts = sorted({plain(prompt) for prompt in asked}, key=lambda prompt: derive(seed, "validation", prompt))
    first = set(prompts[: max(1, round(validated.share * len(prompts)))])
    apart = {prompt for prompt in asked if plain(prompt) in first}
    kept, held = lessons.without(apart), lessons.without(asked - apart)
    learned = {(row["prompt"], row["completion"]) for row in good_examples(kept.thumbs, kept.pairs)}
    probes = [row for row in probes if (row["prompt"], row["chosen"]) not in learned]
    validation = Validation(
        held.thumbs[: validated.thumbs], held.pairs[: validated.pairs], _first_of_each(probes, validated.probes)
    )
    for side, part in (("training", kept), ("validation", validation)):
        ups, thumbs = sum(row["label"] for row in part.thumbs), len(part.thumbs)
        if not part.pairs and not 0 < ups < thumbs:
            raise BadInput(
                f"search.validation.share: expected thumbs up and thumbs down, or pairs, for {side}, got {ups} up, "
                f"{thumbs - ups} down and no pairs"
            )
    return kept, validation


def _first_of_each(probes: Iterable[Row], most: int) -> list[Row]:
    by_name = defaultdict(list)
    for row in probes:
        by_name[row["probe"]].append(row)
    return [row for rows in by_name.values() for row in rows[:most]]
