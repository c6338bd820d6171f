"""Simulated people: each gives one thumb to a statement, by a logistic of its true quality."""

import math
from dataclasses import dataclass
from random import Random

# Above this quality an even-handed person is more likely to like a statement than not. What authors write leaves a gap
# here: whole analyses score 1, those that lack the mechanism alone 0.85, those in doubt 0.8, all others at most 0.6.
LIKED_FROM = 0.925
SHARPNESS = 80.0  # how fast the chance of a thumb up grows with quality: 0.075 above the threshold means 99.8 %


@dataclass(frozen=True)
class Rater:
    """`leniency` is added to the log-odds of a thumb up; `noise` is the chance that it is given the wrong way."""

    name: str
    leniency: float
    noise: float

    def votes_up(self, quality: float, rng: Random) -> bool:
        log_odds = SHARPNESS * (quality - LIKED_FROM) + self.leniency
        likes = rng.random() < 1 / (1 + math.exp(-log_odds))
        return likes != (rng.random() < self.noise)


def gather_raters(count: int, noise: float, rng: Random) -> list[Rater]:
    return [Rater(f"rater-{i:02d}", rng.gauss(0.0, 0.7), noise) for i in range(1, count + 1)]


def deserves_thumb_up(quality: float) -> bool:
    """The label without leniency, chance and noise: what an even-handed rater would say."""
    return quality > LIKED_FROM
