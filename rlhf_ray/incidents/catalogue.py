"""The catalogue: which causes exist, which evidence they leave, and the words people use for them."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Literal

import yaml

Wordings = Literal["seen", "heldout", "any"]
BARE_SERVICE = "service"  # stands in for the service's name where a prompt does not give one


@dataclass(frozen=True)
class Phrases:
    """The wordings of one thing. The last is held out: no thumb and no PPO prompt contains it."""

    all: tuple[str, ...]

    @property
    def heldout(self) -> str:
        return self.all[-1]

    def choose(self, rng: Random, wordings: Wordings) -> str:
        if wordings == "heldout":
            return self.heldout
        return rng.choice(self.all if wordings == "any" else self.all[:-1])


@dataclass(frozen=True)
class Cause:
    """One thing that can go wrong. Its evidence is the signs of its family and the lines of its trigger."""

    name: str
    family: str
    trigger: str
    signs: Phrases
    triggers: Phrases
    wordings: Phrases
    mechanisms: Phrases
    fixes: Phrases
    preventions: Phrases

    @property
    def statement_phrases(self) -> tuple[Phrases, ...]:
        return self.wordings, self.mechanisms, self.fixes, self.preventions


@dataclass(frozen=True)
class Symptom:
    """What people notice first, and the families of causes that can explain it."""

    name: str
    families: tuple[str, ...]
    restated: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    services: tuple[str, ...]
    symptoms: dict[str, Symptom]
    causes: dict[str, Cause]
    noise: tuple[str, ...]
    frames: dict[str, tuple[str, ...]]  # sentences with gaps, by what they are for
    doubts: Phrases
    keywords: tuple[str, ...]

    def explaining(self, symptom: str) -> list[Cause]:
        """Every cause that can show itself as this symptom."""
        families = self.symptoms[symptom].families
        return [cause for cause in self.causes.values() if cause.family in families]

    def sibling(self, cause: Cause) -> Cause:
        """The other cause of the family: the same signs, another trigger."""
        return next(c for c in self.causes.values() if c.family == cause.family and c != cause)


@cache
def load_catalogue() -> Catalogue:
    raw = yaml.safe_load(files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8"))
    return Catalogue(
        services=tuple(raw["services"]),
        symptoms={
            name: Symptom(name, tuple(entry["families"]), tuple(entry["restated"]))
            for name, entry in raw["symptoms"].items()
        },
        causes={
            name: Cause(
                name=name,
                family=family,
                trigger=cause["trigger"],
                signs=Phrases(tuple(entry["signs"])),
                triggers=Phrases(tuple(raw["triggers"][cause["trigger"]])),
                wordings=Phrases(tuple(cause["wordings"])),
                mechanisms=Phrases(tuple(cause["mechanisms"])),
                fixes=Phrases(tuple(cause["fixes"])),
                preventions=Phrases(tuple(cause["preventions"])),
            )
            for family, entry in raw["families"].items()
            for name, cause in entry["causes"].items()
        },
        noise=tuple(raw["noise"]),
        frames={name: tuple(frames) for name, frames in raw["frames"].items()},
        doubts=Phrases(tuple(raw["doubts"])),
        keywords=tuple(raw["keywords"]),
    )
