"""The tables of the demo's world: corpus, prompts, held-out prompts, and the thumbs that people give."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from pydantic import Field

from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.incidents.catalogue import Wordings, load_catalogue
from rlhf_ray.incidents.incident import PROOF_OF_CONCEPT_SYMPTOMS, Incident, ask, draw_incident, incidents
from rlhf_ray.incidents.raters import deserves_thumb_up, gather_raters
from rlhf_ray.incidents.rubric import judge
from rlhf_ray.incidents.statements import KINDS, draw_kind, write
from rlhf_ray.seeds import derive

UNPROVEN, UNPROVEN_REVIEWS = 0.25, 0.45  # shares of prompts without evidence, among those of authors and of reviewers
FIRST_THUMB = datetime(2026, 1, 5, 9, tzinfo=UTC)
PROMPT_COLUMNS = ("prompt", "symptom", "service", "cause")
STATEMENT_COLUMNS = (*PROMPT_COLUMNS, "completion", "kind")


class World(Config):
    """How much of the world to make."""

    corpus: int = Field(4000, ge=1, description="Statements, good and bad, to fine-tune a model on.")
    train_prompts: int = Field(2000, ge=1, description="Prompts for PPO and for the samples that people rate.")
    heldout_prompts: int = Field(200, ge=1, description="Prompts about combinations that nothing was trained on.")
    heldout_wordings: int = Field(100, ge=1, description="Prompts about such combinations in held-out wordings.")


def make_prompts(count: int, seed: int, *, heldout: bool, wordings: Wordings = "seen") -> list[Row]:
    """Prompts with the truth about their incidents, which only raters and the rubric may read. Held-out ones differ."""
    rng = Random(derive(seed, "prompts", heldout, wordings))
    pool = incidents(heldout=heldout)
    rows: list[Row] = []
    while len(rows) < count:
        incident = rng.choice(pool) if heldout else draw_incident(pool, rng, UNPROVEN)
        row = {"prompt": ask(incident, rng, wordings)} | vars(incident)
        says_nothing_heldout = wordings == "heldout" and not incident.cause
        if not says_nothing_heldout and not (heldout and row in rows):
            rows.append(row)
    return rows


def proof_of_concept_prompts() -> list[Row]:
    rng = Random(0)
    return [{"prompt": ask(i, rng)} | vars(i) for i in map(Incident, PROOF_OF_CONCEPT_SYMPTOMS)]


def write_statements(
    prompts: Iterable[Row], seed: int, wordings: Wordings = "seen", *, for_review: bool = False
) -> list[Row]:
    """One statement for each prompt, its kind drawn as an average author's, or as those that are sent to review."""
    rng = Random(derive(seed, "statements", wordings, for_review))
    rows = []
    for prompt in prompts:
        incident = incident_of(prompt)
        kind = draw_kind(incident, rng, for_review=for_review)
        rows.append(prompt | {"completion": write(kind, incident, rng, wordings), "kind": kind})
    return rows


def make_corpus(count: int, seed: int, wordings: Wordings = "seen", *, for_review: bool = False) -> list[Row]:
    """Statements about any incidents that are not held out; prompts may repeat."""
    rng = Random(derive(seed, "corpus", wordings, for_review))
    pool = incidents(heldout=False)
    drawn = [draw_incident(pool, rng, UNPROVEN_REVIEWS if for_review else UNPROVEN) for _ in range(count)]
    prompts = [{"prompt": ask(i, rng, wordings)} | vars(i) for i in drawn]
    return write_statements(prompts, seed, wordings, for_review=for_review)


def make_base_corpus(statements: int, near_misses: int, seed: int) -> list[Row]:
    """What the shipped base learns from, in all wordings: `prompt, completion, review, quoted`.

    Behind the end of every statement stands a reviewer's verdict. Who has read them knows, where a statement ends,
    whether it fits the evidence: a reward model reads the same place and then needs few thumbs. No model writes a
    review itself, since it stops where its statement ends. A `quoted` statement is there to be read, not to learn to
    write like it: those are mostly near misses, more of them than an average author makes.
    """
    rows = []
    for quoted, count in ((False, statements), (True, near_misses)):
        for row in make_corpus(count, seed, "any", for_review=quoted):
            review = KINDS[row["kind"]].review
            rows.append({"prompt": row["prompt"], "completion": row["completion"], "review": review, "quoted": quoted})
    return rows


def rate(rows: list[Row], seed: int, *, raters: int, noise: float) -> list[Row]:
    """Each statement gets one thumb from one rater: `prompt, completion, label, rater, created_at`."""
    rng = Random(derive(seed, "raters"))
    people = gather_raters(raters, noise, rng)
    thumbs = []
    for number, row in enumerate(rows):
        rater = rng.choice(people)
        thumbs.append(
            {
                "prompt": row["prompt"],
                "completion": row["completion"],
                "label": rater.votes_up(quality(row), rng),
                "rater": rater.name,
                "created_at": FIRST_THUMB + timedelta(seconds=41 * number),
            }
        )
    return thumbs


def rate_fairly(rows: list[Row]) -> list[Row]:
    """The thumbs of an even-handed rater who makes no mistakes, for measuring; with the kind of statement."""
    return [
        {
            "prompt": r["prompt"],
            "completion": r["completion"],
            "label": deserves_thumb_up(quality(r)),
            "kind": r["kind"],
        }
        for r in rows
    ]


def quality(row: Row) -> float:
    return judge(incident_of(row), row["completion"], finished=row.get("ended", True)).score


def incident_of(row: Row) -> Incident:
    return Incident(row["symptom"], row["service"], row["cause"])


def holds_heldout_wording(text: str) -> bool:
    """Whether any phrase that is held out stands in the text, whatever service it speaks of."""
    return any(part in text.lower() for part in _heldout_parts())


@cache
def _heldout_parts() -> set[str]:
    """Held-out phrases, lower case; of a phrase with a slot its longer side."""
    causes = load_catalogue().causes.values()
    phrases = {p.heldout for c in causes for p in (*c.statement_phrases, c.signs, c.triggers)}
    phrases.add(load_catalogue().doubts.heldout)
    return {max(phrase.lower().rstrip(".").split("{service}"), key=len).strip() for phrase in phrases}


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """The rows in another order, as people happen to come by them."""
    order = list(rows)
    Random(derive(seed, "order")).shuffle(order)
    return order
