"""Probes of a reward model: pairs of statements, one right and one wrong, which differ in one thing only.

Who counts words cannot tell the two apart: they have the same words, or what is wrong here is right of another prompt,
or what is wrong is a word that no thumb contains.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import NamedTuple, Self

from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.probes import in_no_order
from rlhf_ray.incidents.catalogue import Cause, Wordings, load_catalogue
from rlhf_ray.incidents.incident import Incident, ask, incidents, is_heldout
from rlhf_ray.incidents.statements import Author
from rlhf_ray.seeds import derive


class Twins(Author):
    """Writes about one incident with evidence, and every time in the same words but for what the twin changes.

    Each sentence has a source of chance of its own, and the mistake is always the sibling's cause.
    """

    def __init__(self, incident: Incident, seed: int, wordings: Wordings) -> None:
        super().__init__(incident, Random(seed), wordings)
        self.seed = seed
        self.other = load_catalogue().sibling(self.cause)

    def unclosed(self) -> str:
        return self._join(*self._analysis()[:3])

    def closed(self) -> str:
        return self._join(self.unclosed(), self._prevents(self.cause))

    def contrasted(self) -> str:
        """It is also said which cause it was not."""
        return self._join(self._contrasts(self.cause, self.other), *self._analysis()[1:])

    def stuffed(self) -> str:
        return in_no_order(self.good(), self._anew("stuffed").rng)

    def hedged(self) -> str:
        """Whole, and a word of doubt behind the cause: about a held-out incident one that no thumb contains."""
        wordings: Wordings = "heldout" if is_heldout(self.incident) else "seen"
        doubt = load_catalogue().doubts.choose(self._anew("hedged").rng, wordings)
        return self._join(*self._analysis(doubt=doubt))

    def denied(self) -> str:
        """What it was and what it was not change places, or the right cause is denied and no other is named."""
        denial = self._contrasts(self.other, self.cause)
        if self._anew("denied").rng.random() < 1 / 3:
            denial = self._fill("denying", cause=self._said(self.cause.wordings))
        return self._join(denial, *self._analysis()[1:])

    def cut_off(self) -> str:
        """Stops within a prevention, or within the fix: longer or shorter than the whole."""
        *before, fix = self._analysis()[:3]
        prevention = self._prevents(self.cause)
        rng = self._anew("cut off").rng
        whole, broken = ([*before, fix], prevention) if rng.random() < 2 / 3 else (before, fix)
        words = broken.split()
        return self._join(*whole, *words[: rng.randint(2, len(words) - 2)])

    def repeating(self) -> str:
        """A sentence again, behind the whole or in the place of the prevention."""
        sentences = self._analysis()[:3]
        rng = self._anew("repeating").rng
        again = rng.choice(sentences)
        return self._join(*sentences, *self._maybe(0.5, self._prevents(self.cause)), again)

    def swapped(self) -> str:
        """A good statement, of another prompt."""
        strangers = [i for i in _provable(is_heldout(self.incident)) if i.cause != self.incident.cause]
        return Twins(self._anew("swapped").rng.choice(strangers), self.seed, self.wordings).good()

    def near_miss(self) -> str:
        misses = (Twins.hedged, Author.wrong_cause, Author.wrong_component, Author.wrong_mechanism, Author.wrong_fix)
        return self._anew("near miss").rng.choice(misses)(self)

    def _analysis(
        self,
        named: Cause | None = None,
        explained: Cause | None = None,
        fixed: Cause | None = None,
        doubt: str = "",
    ) -> list[str]:
        return [
            self._anew("named")._names(named or self.cause, doubt),
            self._anew("explained")._explains(explained or self.cause),
            self._anew("fixed")._resolves(fixed or self.cause),
            *self._anew("closed")._closing(fixed or self.cause),
        ]

    def _contrasts(self, cause: Cause, other: Cause) -> str:
        self._anew("contrasts")
        said = {each: self._said(each.wordings) for each in (self.cause, self.other)}
        return self._fill("contrasting", cause=said[cause], other=said[other])

    def _prevents(self, cause: Cause) -> str:
        return self._anew("prevents")._said(cause.preventions)

    def _other_cause(self) -> Cause:
        return self.other

    def _elsewhere(self) -> "Twins":
        others = [service for service in load_catalogue().services if service != self.incident.service]
        service = self._anew("elsewhere").rng.choice(others)
        return Twins(replace(self.incident, service=service), self.seed, self.wordings)

    def _anew(self, part: str) -> Self:
        """Itself, with the chance that belongs to this part of a statement."""
        self.rng = Random(derive(self.seed, part))
        return self


class Probe(NamedTuple):
    """How the two statements of a pair are written."""

    chosen: Callable[[Twins], str]
    rejected: Callable[[Twins], str]
    wordings: Wordings = "seen"


PROBES = {
    "keyword_stuffing": Probe(Twins.good, Twins.stuffed),
    "hedged": Probe(Twins.good, Twins.hedged),
    "wrong_cause": Probe(Twins.good, Twins.wrong_cause),
    "wrong_component": Probe(Twins.good, Twins.wrong_component),
    "wrong_fix": Probe(Twins.good, Twins.wrong_fix),
    "negation": Probe(Twins.contrasted, Twins.denied),
    "truncation": Probe(Twins.unclosed, Twins.cut_off),
    "repetition": Probe(Twins.closed, Twins.repeating),
    "prompt_swapped": Probe(Twins.good, Twins.swapped),
    "heldout_wordings": Probe(Twins.good, Twins.near_miss, "heldout"),
}


def make_probes(count: int, seed: int, *, heldout: bool) -> list[Row]:
    """`count` pairs of each probe: rows of `probe, prompt, chosen, rejected`. Every cause is as often right as any.

    About incidents that are not held out there is no probe of held-out wordings: who searches for settings must not
    choose them by what measures them at the end.
    """
    causes = list(load_catalogue().causes)
    rows = []
    for name, probe in PROBES.items():
        if probe.wordings == "heldout" and not heldout:
            continue
        for number in range(count):
            own = derive(seed, "probes", heldout, name, number)
            rng = Random(own)
            cause = causes[number % len(causes)]
            incident = rng.choice([i for i in _provable(heldout) if i.cause == cause])
            twins = Twins(incident, own, probe.wordings)
            prompt = ask(incident, rng, probe.wordings)
            rows.append(
                {"probe": name, "prompt": prompt, "chosen": probe.chosen(twins), "rejected": probe.rejected(twins)}
            )
    return rows


@cache
def _provable(heldout: bool) -> tuple[Incident, ...]:
    """The incidents of one side of the split whose cause the evidence tells."""
    return tuple(incident for incident in incidents(heldout=heldout) if incident.cause)
