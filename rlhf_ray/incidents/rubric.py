"""The judge that training never sees: criteria and a score, read off a statement and the incident's true cause."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Literal

from rlhf_ray.incidents.catalogue import Phrases, load_catalogue
from rlhf_ray.incidents.incident import Incident, read_prompt

MOST_WORDS = 80
CONTRADICTED = 0.5  # an analysis that says something false is worth half of what its true parts are worth
SUBSTANCE = {"names_cause": 0.05, "right_cause": 0.25, "mechanism": 0.15, "fitting_fix": 0.35, "conclusive": 0.20}
FORM = {"blameless": 0.5, "concise_finished": 0.6, "not_stuffed": 0.2}  # what is left of the score where one fails

HEDGE = re.compile(
    r"\b((?<!\d )(?<!in )may(?! \d)|might|maybe|perhaps|possibly|potentially|probably|presumably|apparently|could be"
    r"|could have|unclear|uncertain|not certain|hard to say|best guess|we think|we believe|we suspect|seems?"
    r"|appears? to|likely)\b"
)
UNRESOLVED = re.compile(
    r"\b(ongoing|not been found|not yet|continues(?! (to|without|as))"
    r"|still (being )?investigat\w+|under investigation)\b"
)
# What stands before a wording and denies it, unless the sentence turns ("not … but …") or gives a reason after it.
DENIED_BEFORE = re.compile(
    r"\b(not|never|ruled out|excluded|rather than|instead of|unrelated to|no evidence of|wasn t|isn t)\b"
    r"(?!.*\b(but|because|due to|after|when|was caused by)\b)|\bno $"
)
DENIED_AFTER = re.compile(r"^ (was|were|is|are) (not|never|ruled out|excluded)\b")
UNDONE = re.compile(r"\b(not|never|should have|could have) $")
BLAME = re.compile(
    r"\b(careless|carelessly|fault of|(?<!nobody is )(?<!no one is )to blame|(?<!to )blames?|forgot to do"
    r"|should have known|messed up|screwed up|incompetent|negligen\w+|lazy|sloppy|ignored the warnings"
    r"|did not bother)\b"
)
JARGON = re.compile(
    r"((\broot cause|\bresolved|\bfix(ed)?|\bincident|\bmechanism|\bprevention|\bmitigated|\bconclusive)\b ?){4,}"
)
END = re.compile(r"([^.]\.|!)[^\w.]*$")  # one full stop, not three; a quote or an emoji may follow


@dataclass(frozen=True)
class Verdict:
    """The criteria, each passed or not, and the score in [0, 1] that follows from them."""

    names_cause: bool
    right_cause: bool
    mechanism: bool
    fitting_fix: bool
    conclusive: bool
    blameless: bool
    concise_finished: bool
    not_stuffed: bool
    contradicted: bool

    @property
    def score(self) -> float:
        passed = asdict(self)
        substance = sum(weight for name, weight in SUBSTANCE.items() if passed[name])
        for name, left in FORM.items():
            substance *= 1.0 if passed[name] else left
        return substance * (CONTRADICTED if self.contradicted else 1.0)


CRITERIA = tuple(f.name for f in fields(Verdict) if f.name != "contradicted")


def judge(incident: Incident, statement: str, *, finished: bool = True) -> Verdict:
    """Judge a statement. `finished` is False where the generator was cut off before its end-of-text token."""
    said = _Reading(statement)
    right = {cause.name for cause in incident.right_causes}
    named = said.causes(incident.service)
    explained = said.matching("mechanisms")
    fixed = said.matching("fixes")
    # Without evidence several causes are right, but the statement must be about one of them throughout.
    meant = right & named if right & named else right
    right_cause = bool(named) and named <= right and len(named) == 1
    return Verdict(
        names_cause=bool(named),
        right_cause=right_cause,
        mechanism=bool(explained & meant),
        fitting_fix=bool(fixed & meant) and fixed <= meant,
        conclusive=bool(named) and bool(fixed) and not HEDGE.search(said.text) and not UNRESOLVED.search(said.text),
        blameless=not BLAME.search(said.text),
        concise_finished=finished and said.is_concise() and bool(said.text and END.search(statement)),
        not_stuffed=not said.is_stuffed(),
        contradicted=bool(named - right) or len(named) > 1 or bool(explained - meant) or bool(fixed - meant),
    )


def rubric(prompts: list[str], completions: list[str]) -> list[float]:
    """The scores of statements about the incidents that their prompts tell, in the form that a reward has.

    Whoever trains on this has no judge left: the report says so.
    """
    return [judge(read_prompt(prompt), text).score for prompt, text in zip(prompts, completions, strict=True)]


class _Reading:
    """A statement as the judge reads it: lower case, no punctuation, one sentence at a time."""

    def __init__(self, statement: str) -> None:
        self.sentences = [s for part in re.split(r"[.!?:;]+|\n\s*(?=\n|[-*•\d])", statement) if (s := _normal(part))]
        self.text = " ".join(self.sentences)

    def causes(self, service: str) -> set[str]:
        """The causes that are asserted, named "… in another component" where a cause is put into another service."""
        asserted = set()
        for sentence in self.sentences:
            for cause in load_catalogue().causes.values():
                for found in _found(cause.wordings, sentence):
                    if DENIED_BEFORE.search(sentence[: found.start()]) or DENIED_AFTER.search(sentence[found.end() :]):
                        continue
                    elsewhere = service and found["service"] != service
                    asserted.add(f"{cause.name} in another component" if elsewhere else cause.name)
        return asserted

    def matching(self, part: Literal["mechanisms", "fixes"]) -> set[str]:
        """The causes of which a mechanism, or a fix, is stated."""
        causes = load_catalogue().causes.values()
        return {cause.name for cause in causes if any(map(self._is_done, _found(getattr(cause, part), self.text)))}

    def _is_done(self, found: re.Match[str]) -> bool:
        return not UNDONE.search(self.text[: found.start()])

    def is_concise(self) -> bool:
        return len(self.text.split()) <= MOST_WORDS and len(set(self.sentences)) == len(self.sentences)

    def is_stuffed(self) -> bool:
        """Words without sentences: "root cause" over and over, or hardly any word that is not a repetition."""
        words = self.text.split()
        repeated = bool(words) and len(set(words)) < 0.5 * len(words)
        return repeated or bool(JARGON.search(self.text)) or len(re.findall(r"\broot cause\b", self.text)) > 2


def _found(phrases: Phrases, text: str) -> Iterator[re.Match[str]]:
    """Where wordings stand in a normalised text: the first article is free, any one word may stand for the service."""
    for literal, pattern in _patterns(phrases):
        if literal in text:
            yield from pattern.finditer(text)


@cache
def _patterns(phrases: Phrases) -> list[tuple[str, re.Pattern[str]]]:
    """Each wording as a literal part, which is quick to look for, and the pattern of the whole."""
    patterns = []
    for wording in phrases.all:
        words = re.sub(r"^(a|an|the|one) ", "", _normal(wording.replace("{service}", "slot")))
        literal = max(re.split(r"(?:\ba )?slot", words), key=len)
        words = re.sub(r"\ba slot", "an? slot", words)
        patterns.append((literal, re.compile(rf"\b{words}\b".replace("slot", r"(?P<service>\w+)"))))
    return patterns


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
