"""An incident, the evidence that was found, and the prompt that asks for its analysis."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from rlhf_ray.incidents.catalogue import BARE_SERVICE, Cause, Wordings, load_catalogue
from rlhf_ray.seeds import derive

# The prompts of the proof of concept: a symptom, no service, no evidence. No training prompt equals one of them.
PROOF_OF_CONCEPT_SYMPTOMS = ("API latency spike", "database connection failure", "user login outage")


@dataclass(frozen=True)
class Incident:
    """What really happened. Without evidence `cause` is empty: every cause that explains the symptom is right then."""

    symptom: str
    service: str = ""
    cause: str = ""

    @property
    def right_causes(self) -> list[Cause]:
        catalogue = load_catalogue()
        return [catalogue.causes[self.cause]] if self.cause else catalogue.explaining(self.symptom)

    @property
    def spoken_service(self) -> str:
        return self.service or BARE_SERVICE


def ask(incident: Incident, rng: Random, wordings: Wordings = "seen") -> str:
    """The prompt for an incident: with 2 to 4 evidence lines in random order where its cause is known, else bare.

    One line is a sign (fits two causes) and one a trigger (fits four); the others repeat either or are noise.
    """
    what = f"{incident.symptom} in {incident.service}" if incident.service else incident.symptom
    if not incident.cause:
        return ask_about(what)
    (cause,) = incident.right_causes
    lines = [cause.signs.choose(rng, wordings), cause.triggers.choose(rng, wordings)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.random()
        if kind < 0.7:
            extra = rng.choice(load_catalogue().noise)
        else:
            extra = (cause.signs if kind < 0.85 else cause.triggers).choose(rng, wordings)
        if extra not in lines:
            lines.append(extra)
    rng.shuffle(lines)
    return ask_about(what, lines)


def ask_about(what: str, evidence: Iterable[str] = ()) -> str:
    """The prompt in the words that models are trained with, about whatever somebody names."""
    opening = f"Provide a Root Cause Analysis for the recent {what}."
    return "\n".join([opening, *(f"- {line}" for line in evidence)]) + "\n"


OPENING = re.compile(r"Provide a Root Cause Analysis for the recent ([\w ]+?)(?: in (\w+))?\.")


def read_prompt(prompt: str) -> Incident:
    """The incident that a prompt asks about: its cause is the one that fits every line of evidence.

    Raises ValueError where it is no prompt of this world.
    """
    first, *lines = prompt.strip().splitlines() or [""]
    opening = OPENING.fullmatch(first)
    if not opening or opening[1] not in load_catalogue().symptoms:
        raise ValueError(f"expected a prompt for a Root Cause Analysis, got {prompt[:60]!r}")
    fitting = [causes for line in lines if (causes := _leaving(line.removeprefix("- ")))]
    causes = set.intersection(*fitting) if fitting else {""}
    if len(causes) != 1:
        raise ValueError(f"expected evidence of one cause, got {len(causes)} in {prompt[:60]!r}")
    return Incident(opening[1], opening[2] or "", causes.pop())


def _leaving(line: str) -> set[str]:
    """The causes that leave this line of evidence; none where it is noise."""
    causes = load_catalogue().causes.values()
    return {cause.name for cause in causes if line in cause.signs.all or line in cause.triggers.all}


def is_heldout(incident: Incident) -> bool:
    """Every fifth combination of symptom, service and cause is held out, for the base's corpus as for all runs."""
    return derive("heldout", incident.symptom, incident.service, incident.cause) % 5 == 0


def incidents(*, heldout: bool) -> list[Incident]:
    """The incidents of one side of the split, those without evidence among them."""
    return [incident for incident in _all_incidents() if is_heldout(incident) == heldout]


def draw_incident(pool: list[Incident], rng: Random, unproven: float) -> Incident:
    """One incident of the pool; the share `unproven` is without evidence, two in five of those without a service, too.

    Those last are asked about as the proof of concept asked. Which causes can explain a symptom is learned from both.
    """
    chance = rng.random()
    if chance < 0.4 * unproven:
        symptoms = [s for s in load_catalogue().symptoms if s not in PROOF_OF_CONCEPT_SYMPTOMS]
        return Incident(rng.choice(symptoms))
    with_evidence = chance >= unproven
    while bool((incident := rng.choice(pool)).cause) != with_evidence:
        pass
    return incident


def _all_incidents() -> Iterator[Incident]:
    catalogue = load_catalogue()
    for symptom in catalogue.symptoms:
        for service in catalogue.services:
            yield Incident(symptom, service)
            for cause in catalogue.explaining(symptom):
                yield Incident(symptom, service, cause.name)
