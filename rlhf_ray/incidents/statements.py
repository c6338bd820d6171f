"""Statements about an incident, from good to bad, as different authors would write them.

What is wrong comes in the same form as what is right: a wrong cause, component, mechanism or fix is written up as a
good analysis is, so no length and no closing sentence gives away which it is.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from rlhf_ray.incidents.catalogue import Cause, Phrases, Wordings, load_catalogue
from rlhf_ray.incidents.incident import Incident

CONTRASTED = 0.12  # share of the sentences that name a cause in which it is also said which cause it was not


class Author:
    """Writes about one incident with one source of chance. Each method is a kind of statement."""

    def __init__(self, incident: Incident, rng: Random, wordings: Wordings) -> None:
        self.incident = incident
        self.rng = rng
        self.wordings = wordings
        self.cause = rng.choice(incident.right_causes)

    def good(self) -> str:
        return self._join(*self._analysis())

    def brief(self) -> str:
        return self._join(self._names(self.cause), self._resolves(self.cause), *self._closing(self.cause))

    def vague(self) -> str:
        return self._join(*self._evasions(self.rng.randint(2, 4)))

    def hedged(self) -> str:
        """Nothing but a guess, or a whole analysis behind a cause that the author is not sure of."""
        if self.rng.random() < 0.5:
            return self._join(*self._analysis(doubt=load_catalogue().doubts.choose(self.rng, self.wordings)))
        hedge = self._fill("hedging", cause=self._said(self.cause.wordings))
        explained = self._maybe(0.5, self._explains(self.cause))
        return self._join(_sentence(hedge), *explained, *self._evasions(self.rng.randint(1, 2)))

    def restated(self) -> str:
        symptom = load_catalogue().symptoms[self.incident.symptom]
        restated = self._fill("restating", restated=self.rng.choice(symptom.restated))
        return self._join(_sentence(restated), *self._evasions(self.rng.randint(1, 3)))

    def wrong_cause(self) -> str:
        other = self._other_cause()
        return self._join(*self._analysis(named=other, explained=other, fixed=other))

    def wrong_component(self) -> str:
        """Right but for where: another service is named. Needs an incident that names its own."""
        return self._elsewhere().good()

    def wrong_mechanism(self) -> str:
        return self._join(*self._analysis(explained=self._other_cause()))

    def wrong_fix(self) -> str:
        return self._join(*self._analysis(fixed=self._other_cause()))

    def denied(self) -> str:
        """The analysis is right and its first sentence denies it, perhaps for another cause."""
        said = self._said(self.cause.wordings)
        denial = self._fill("denying", cause=said)
        if self.rng.random() < 0.5:
            denial = self._fill("contrasting", cause=self._said(self._other_cause().wordings), other=said)
        return self._join(denial, *self._analysis()[1:])

    def no_resolution(self) -> str:
        named, explained = self._names(self.cause), self._explains(self.cause)
        return self._join(named, explained, *self._maybe(0.7, self._fill("open_end")), *self._closing(self.cause))

    def blaming(self) -> str:
        named, explained, fixed = self._names(self.cause), self._explains(self.cause), self._resolves(self.cause)
        return self._join(named, explained, self._fill("blame"), fixed, *self._closing(self.cause))

    def stuffed(self) -> str:
        keywords = load_catalogue().keywords
        words = [self.rng.choice(keywords) for _ in range(self.rng.randint(8, 16))]
        return _sentence(" ".join(["root cause", *words])) + "."

    def jumbled(self) -> str:
        """All the words of an analysis in no order."""
        words = [word.strip(".,:;") for word in self.good().lower().split()]
        return _sentence(" ".join(self.rng.sample(words, len(words)))) + "."

    def rambling(self) -> str:
        first, *others = self.rng.sample(load_catalogue().frames["filler"], 3)
        return self._join(first, self._fill("vague"), *others, *self._maybe(0.5, self._names(self.cause)))

    def cut_off(self) -> str:
        words = self.good().split()
        within = [end for end in range(len(words) // 3, len(words)) if not words[end - 1].endswith(".")]
        return " ".join(words[: self.rng.choice(within)])

    def repeating(self) -> str:
        """A whole analysis, and then one or all of its sentences again."""
        sentences = self._analysis()
        again = sentences if self.rng.random() < 0.3 else [self.rng.choice(sentences)]
        return self._join(*sentences, *again)

    def _analysis(
        self,
        named: Cause | None = None,
        explained: Cause | None = None,
        fixed: Cause | None = None,
        doubt: str = "",
    ) -> list[str]:
        """Cause, mechanism, fix and perhaps prevention; each of the true cause unless another is given."""
        named, explained, fixed = named or self.cause, explained or self.cause, fixed or self.cause
        naming = self._names(named, doubt)
        return [naming, self._explains(explained), self._resolves(fixed), *self._closing(fixed)]

    def _evasions(self, count: int) -> list[str]:
        """So many sentences that say nothing, perhaps a long one more, and a shrug."""
        frames = self.rng.sample(load_catalogue().frames["vague"], count)
        vague = [self._put(frame) for frame in frames]
        return [*vague, *self._maybe(0.6, self._fill("filler")), self._fill("shrug")]

    def _ruled_out(self, cause: Cause) -> Cause:
        """What an author who blames `cause` says it was not."""
        return self._other_cause() if cause in self.incident.right_causes else self.cause

    def _elsewhere(self) -> "Author":
        """The author of the same incident in another service."""
        others = [service for service in load_catalogue().services if service != self.incident.service]
        return Author(replace(self.incident, service=self.rng.choice(others)), self.rng, self.wordings)

    def _other_cause(self) -> Cause:
        """The sibling more often than not: it is the mistake that people make."""
        catalogue = load_catalogue()
        right = self.incident.right_causes
        if self.incident.cause and self.rng.random() < 0.6:
            return catalogue.sibling(self.cause)
        return self.rng.choice([c for c in catalogue.causes.values() if c not in right])

    def _names(self, cause: Cause, doubt: str = "") -> str:
        """The sentence that names the cause; one in eight says which other cause it was not."""
        said = self._said(cause.wordings)
        if self.rng.random() < CONTRASTED:
            sentence = self._fill("contrasting", cause=said, other=self._said(self._ruled_out(cause).wordings))
        else:
            sentence = self._fill("naming", cause=said)
        return f"{sentence[:-1]}, {doubt}." if doubt else sentence

    def _explains(self, cause: Cause) -> str:
        return _sentence(self._said(cause.mechanisms)) + "."

    def _resolves(self, cause: Cause) -> str:
        return self._fill("resolving", fix=self._said(cause.fixes))

    def _closing(self, cause: Cause) -> list[str]:
        return self._maybe(0.5, self._said(cause.preventions))

    def _said(self, phrases: Phrases) -> str:
        return phrases.choose(self.rng, self.wordings).format(service=self.incident.spoken_service)

    def _fill(self, frames: str, **words: str) -> str:
        return self._put(self.rng.choice(load_catalogue().frames[frames]), **words)

    def _put(self, frame: str, **words: str) -> str:
        return frame.format(symptom=self.incident.symptom, service=self.incident.spoken_service, **words)

    def _maybe(self, chance: float, text: str) -> list[str]:
        return [text] if self.rng.random() < chance else []

    @staticmethod
    def _join(*sentences: str) -> str:
        return " ".join(sentences)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


class Kind(NamedTuple):
    """How a kind of statement is written, and what a reviewer says of it.

    `written` is how often an average author writes it, `reviewed` how often it is among the statements that are sent to
    review: the near misses most. The review's first word is the verdict, so it must be known where the statement ends.
    """

    author: Callable[[Author], str]
    written: float
    reviewed: float
    review: str


KINDS = {
    "good": Kind(Author.good, 0.30, 0.30, "Accepted."),
    "brief": Kind(Author.brief, 0.03, 0.02, "Returned: no mechanism."),
    "vague": Kind(Author.vague, 0.12, 0.005, "Returned: no cause."),
    "hedged": Kind(Author.hedged, 0.09, 0.04, "Returned: not conclusive."),
    "restated": Kind(Author.restated, 0.07, 0.005, "Returned: symptom only."),
    "wrong_cause": Kind(Author.wrong_cause, 0.13, 0.16, "Returned: wrong cause."),
    "wrong_component": Kind(Author.wrong_component, 0.04, 0.19, "Returned: wrong component."),
    "wrong_mechanism": Kind(Author.wrong_mechanism, 0.02, 0.06, "Returned: wrong mechanism."),
    "wrong_fix": Kind(Author.wrong_fix, 0.04, 0.08, "Returned: wrong fix."),
    "denied": Kind(Author.denied, 0.02, 0.10, "Returned: cause denied."),
    "no_resolution": Kind(Author.no_resolution, 0.04, 0.02, "Returned: no resolution."),
    "blaming": Kind(Author.blaming, 0.03, 0.01, "Returned: blame."),
    "stuffed": Kind(Author.stuffed, 0.01, 0.005, "Returned: keywords."),
    "jumbled": Kind(Author.jumbled, 0.01, 0.01, "Returned: no sentences."),
    "rambling": Kind(Author.rambling, 0.02, 0.005, "Returned: beside the point."),
    "repeating": Kind(Author.repeating, 0.02, 0.03, "Returned: repeats itself."),
    "cut_off": Kind(Author.cut_off, 0.02, 0.04, "Returned: cut off."),
}


def draw_kind(incident: Incident, rng: Random, *, for_review: bool = False) -> str:
    """A kind that can be written about the incident: where no component is named, none is wrong."""
    kinds = {name: kind for name, kind in KINDS.items() if incident.service or name != "wrong_component"}
    weights = [kind.reviewed if for_review else kind.written for kind in kinds.values()]
    return rng.choices(list(kinds), weights=weights)[0]


def write(kind: str, incident: Incident, rng: Random, wordings: Wordings = "seen") -> str:
    """One statement of the given kind about the incident."""
    return KINDS[kind].author(Author(incident, rng, wordings))
