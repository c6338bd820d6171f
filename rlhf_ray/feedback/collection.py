"""The first thumbs: simulated people rate the SFT model's answers and written statements."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.incidents import world

Speak = Callable[[list[Row]], list[Row]]  # prompts in, the same rows with `completion` and `ended` out


class Collection(Config):
    """Who rates how much of what."""

    samples: int = Field(2000, ge=2, description="Answers of the SFT model that are rated.")
    statements: int = Field(3000, ge=0, description="Written statements that are rated.")
    heldout: int = Field(
        400, ge=1, description="Held-out prompts: an answer and a statement each, rated without noise."
    )
    probes: int = Field(100, ge=1, description="Pairs of statements in each probe of the reward model.")
    raters: int = Field(20, ge=1, description="People who rate.")
    noise: float = Field(0.05, ge=0, lt=0.5, description="Share of thumbs that are given the wrong way.")


@dataclass(frozen=True)
class Thumbs:
    """`given` is for training, `heldout` (noise-free) for measuring, `samples` are all the SFT model's answers."""

    given: list[Row]
    heldout: list[Row]
    samples: list[Row]


def collect(speak: Speak, prompts: list[Row], collection: Collection, seed: int) -> Thumbs:
    """Held-out wordings stay out of the given thumbs, also where the model knows them."""
    heldout = world.make_prompts(collection.heldout, seed + 1, heldout=True)
    asked = cycle_rows(prompts, collection.samples)
    answers = [row | {"kind": "sample"} for row in speak(asked + heldout)]
    samples, heldout_samples = answers[: len(asked)], answers[len(asked) :]
    seen = [row for row in samples if not world.holds_heldout_wording(row["completion"])]
    statements = world.write_statements(cycle_rows(prompts, collection.statements), seed)
    return Thumbs(
        given=world.rate(
            world.shuffled(seen + statements, seed), seed, raters=collection.raters, noise=collection.noise
        ),
        heldout=world.rate_fairly(heldout_samples + world.write_statements(heldout, seed + 1)),
        samples=samples,
    )


def cycle_rows(rows: list[Row], count: int) -> list[Row]:
    """`count` rows, beginning anew at the end."""
    return [rows[i % len(rows)] for i in range(count)]
