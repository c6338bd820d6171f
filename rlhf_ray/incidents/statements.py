"""Statements about an incident, from good to bad, as different authors would write them."""

from collections.abc import Callable
from random import Random

from rlhf_ray.incidents.catalogue import Cause, Phrases, Wordings, load_catalogue
from rlhf_ray.incidents.incident import Incident

NAMING = (
    "The root cause was {cause}.",
    "Root cause: {cause}.",
    "The {symptom} was caused by {cause}.",
    "We traced the incident to {cause}.",
)
RESOLVING = (
    "We {fix}.",
    "To resolve it, we {fix}.",
    "It was resolved after we {fix}.",
    "The team {fix}, and the service recovered.",
)
HEDGING = (
    "It may have been {cause}, but this is not certain.",
    "Possibly this was {cause}.",
    "We think {cause} might be involved.",
    "Perhaps {cause} played a part, it is hard to say.",
)
VAGUE = (
    "There was a problem with the {service} system.",
    "Something went wrong on our side.",
    "A technical issue affected the {service} system for a while.",
    "Some component did not behave as expected.",
    "An internal error led to the {symptom}.",
)
SHRUG = (
    "It works again now.",
    "We will keep an eye on it.",
    "The issue has been dealt with.",
    "Things went back to normal after some time.",
    "Further steps may follow.",
)
RESTATING = (
    "During the {symptom}, {restated}.",
    "The incident was a {symptom}: {restated}.",
    "In short, {restated}.",
)
OPEN_END = (
    "The investigation of a fix is ongoing.",
    "A solution has not been found yet.",
    "Work on this continues.",
)
BLAME = (
    "The on-call engineer was careless and ignored the warnings.",
    "This is the fault of the {service} developers.",
    "Someone in operations forgot to do their job.",
    "The person who approved the change should have known better.",
)
FILLER = (
    "As everybody knows, systems like these are complicated and have many parts.",
    "There were several calls and a lot of messages between the people involved.",
    "Many things were checked, and then many other things were checked too.",
    "In the past there have been other incidents, and some of them were similar.",
    "It is important to understand that availability is important.",
)
KEYWORDS = ("root cause", "resolved", "fix", "incident", "mechanism", "prevention", "mitigated", "conclusive")


class Author:
    """Writes about one incident with one source of chance. Each method is a kind of statement."""

    def __init__(self, incident: Incident, rng: Random, wordings: Wordings) -> None:
        self.incident = incident
        self.rng = rng
        self.wordings = wordings
        self.cause = rng.choice(incident.right_causes)

    def good(self) -> str:
        return " ".join([self._analysis(self.cause), *self._maybe(0.5, self._said(self.cause.preventions))])

    def brief(self) -> str:
        return f"{self._names(self.cause)} {self._resolves(self.cause)}"

    def vague(self) -> str:
        return f"{self._fill(VAGUE)} {self._fill(SHRUG)}"

    def hedged(self) -> str:
        hedge = self._fill(HEDGING, cause=self._said(self.cause.wordings))
        return " ".join([_sentence(hedge), *self._maybe(0.5, self._explains(self.cause)), self._fill(SHRUG)])

    def restated(self) -> str:
        symptom = load_catalogue().symptoms[self.incident.symptom]
        return f"{_sentence(self._fill(RESTATING, restated=self.rng.choice(symptom.restated)))} {self._fill(SHRUG)}"

    def wrong_cause(self) -> str:
        return self._analysis(self._other_cause())

    def wrong_component(self) -> str:
        if not self.incident.service:  # any component may be right
            return self.wrong_cause()
        others = [s for s in load_catalogue().services if s != self.incident.service]
        return Author._about(self, self.rng.choice(others)).good()

    def no_resolution(self) -> str:
        ending = self._maybe(0.5, self._fill(OPEN_END))
        return " ".join([self._names(self.cause), self._explains(self.cause), *ending])

    def wrong_fix(self) -> str:
        return f"{self._names(self.cause)} {self._explains(self.cause)} {self._resolves(self._other_cause())}"

    def blaming(self) -> str:
        return f"{self._names(self.cause)} {self._fill(BLAME)} {self._resolves(self.cause)}"

    def stuffed(self) -> str:
        words = [self.rng.choice(KEYWORDS) for _ in range(self.rng.randint(8, 16))]
        return _sentence(" ".join(["root cause", *words])) + "."

    def rambling(self) -> str:
        filler = self.rng.sample(FILLER, 3)
        return " ".join([filler[0], self._fill(VAGUE), *filler[1:], *self._maybe(0.5, self._names(self.cause))])

    def cut_off(self) -> str:
        words = self._analysis(self.cause).split()
        return " ".join(words[: self.rng.randint(len(words) // 3, len(words) - 2)])

    def _about(self, service: str) -> "Author":
        other = Author(Incident(self.incident.symptom, service, self.incident.cause), self.rng, self.wordings)
        other.cause = self.cause
        return other

    def _other_cause(self) -> Cause:
        """The sibling more often than not: it is the mistake that people make."""
        catalogue = load_catalogue()
        right = self.incident.right_causes
        if self.incident.cause and self.rng.random() < 0.6:
            return catalogue.sibling(self.cause)
        return self.rng.choice([c for c in catalogue.causes.values() if c not in right])

    def _analysis(self, cause: Cause) -> str:
        return f"{self._names(cause)} {self._explains(cause)} {self._resolves(cause)}"

    def _names(self, cause: Cause) -> str:
        return self._fill(NAMING, cause=self._said(cause.wordings))

    def _explains(self, cause: Cause) -> str:
        return _sentence(self._said(cause.mechanisms)) + "."

    def _resolves(self, cause: Cause) -> str:
        return self._fill(RESOLVING, fix=self._said(cause.fixes))

    def _said(self, phrases: Phrases) -> str:
        return phrases.choose(self.rng, self.wordings).format(service=self.incident.spoken_service)

    def _fill(self, frames: tuple[str, ...], **words: str) -> str:
        frame = self.rng.choice(frames)
        return frame.format(symptom=self.incident.symptom, service=self.incident.spoken_service, **words)

    def _maybe(self, chance: float, text: str) -> list[str]:
        return [text] if self.rng.random() < chance else []


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


# How often an average author writes each kind. The base model learns this mixture, good and bad alike.
KINDS: dict[str, tuple[Callable[[Author], str], float]] = {
    "good": (Author.good, 0.31),
    "brief": (Author.brief, 0.06),
    "vague": (Author.vague, 0.12),
    "hedged": (Author.hedged, 0.09),
    "restated": (Author.restated, 0.08),
    "wrong_cause": (Author.wrong_cause, 0.09),
    "wrong_component": (Author.wrong_component, 0.03),
    "no_resolution": (Author.no_resolution, 0.06),
    "wrong_fix": (Author.wrong_fix, 0.05),
    "blaming": (Author.blaming, 0.04),
    "stuffed": (Author.stuffed, 0.03),
    "rambling": (Author.rambling, 0.02),
    "cut_off": (Author.cut_off, 0.02),
}

# What a reviewer says of each kind, and how often a statement of the kind is sent to review: the near misses most. The
# first word is the verdict, so that it must be known where the statement ends.
REVIEWS = {
    "good": ("Accepted.", 0.32),
    "brief": ("Accepted, though short.", 0.06),
    "wrong_cause": ("Returned: wrong cause.", 0.23),
    "wrong_component": ("Returned: wrong component.", 0.15),
    "wrong_fix": ("Returned: wrong fix.", 0.13),
    "no_resolution": ("Returned: no resolution.", 0.03),
    "hedged": ("Returned: not conclusive.", 0.03),
    "blaming": ("Returned: blame.", 0.02),
    "vague": ("Returned: no cause.", 0.01),
    "restated": ("Returned: symptom only.", 0.01),
    "stuffed": ("Returned: keywords.", 0.005),
    "cut_off": ("Returned: cut off.", 0.005),
}


def draw_kind(rng: Random) -> str:
    return rng.choices(list(KINDS), weights=[share for _, share in KINDS.values()])[0]


def write(kind: str, incident: Incident, rng: Random, wordings: Wordings = "seen") -> str:
    """One statement of the given kind about the incident."""
    author, _ = KINDS[kind]
    return author(Author(incident, rng, wordings))


def draw_kind_for_review(rng: Random) -> str:
    return rng.choices(list(REVIEWS), weights=[share for _, share in REVIEWS.values()])[0]
