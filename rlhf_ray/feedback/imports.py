"""Votes of other tools, or of another ledger, brought into a ledger: as often as one likes, each is kept once."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import digest
from rlhf_ray.feedback.archive import as_row, key
from rlhf_ray.feedback.conversation import as_text
from rlhf_ray.feedback.entries import Completion, Entry, Vote, from_json
from rlhf_ray.feedback.exports import LEDGER
from rlhf_ray.feedback.forms import flat, separate
from rlhf_ray.feedback.intake import rejection
from rlhf_ray.feedback.judgement import AnyLength, Unusable, rating, thumb
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.ratings import thumbs_of
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.sources import read_records

AT_ONCE = 1000  # judgements that are looked at and kept together
UNKNOWN = "unknown"  # the model of what another tool says no more of


@dataclass(frozen=True)
class Imported:
    """How many votes were new and how many the ledger had, and the `rejected` (source, row, reason, content)."""

    new: int
    known: int
    rejected: list[Row]


def import_votes(source: str, ledger: Ledger, tokenizer: PreTrainedTokenizerBase | None = None) -> Imported:
    """Keep the thumbs of a source, and its ratings that are as clear as thumbs.

    A tokenizer is wanted where a source holds conversations, for its chat template. Raises BadInput where the source is
    missing or damaged, and OSError as `Ledger.append`; what had been kept until then stays.
    """
    known = _Known(Reader(ledger.folder))
    rejected: list[Row] = []
    new = had = 0
    for judgements in _in_groups(source):
        understood = []
        for number, record in judgements:
            try:
                understood.append((number, record, *_entries(record, tokenizer, ledger.now())))
            except (Unusable, BadInput) as reason:
                rejected.append(rejection(source, number, str(reason), record))
        known.look_up(completion.completion_id for _, _, completion, _ in understood)
        waiting: list[Entry] = []
        for number, record, completion, vote in understood:
            if known.contradicts(completion):
                said = f"completion_id: expected the texts that the ledger has of {vote.completion_id}, got others"
                rejected.append(rejection(source, number, said, record))
            elif known.has(vote):
                had += 1
            else:
                new += 1
                waiting += known.added(completion, vote)
        ledger.append_all(waiting)
    return Imported(new, had, rejected)


def _in_groups(source: str) -> Iterator[list[tuple[int, Any]]]:
    """The judgements with the numbers of their records."""
    each = ((number, part) for number, record in enumerate(read_records(source)) for part in separate(record))
    while group := list(islice(each, AT_ONCE)):
        yield group


class _Known:
    """What the ledger has, and what is on its way to it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._votes = {key("votes", row) for row in reader.votes()}
        self._completions: dict[str, Completion] = {}

    def look_up(self, ids: Iterable[str]) -> None:
        self._completions |= self._reader.completions(set(ids) - self._completions.keys())

    def contradicts(self, completion: Completion) -> bool:
        had = self._completions.get(completion.completion_id)
        return had is not None and (had.prompt, had.completion) != (completion.prompt, completion.completion)

    def has(self, vote: Vote) -> bool:
        return key("votes", as_row(vote)) in self._votes

    def added(self, completion: Completion, vote: Vote) -> list[Entry]:
        """What is to be kept of them."""
        self._votes.add(key("votes", as_row(vote)))
        if completion.completion_id in self._completions:
            return [vote]
        self._completions[completion.completion_id] = completion
        return [completion, vote]


def _entries(record: Any, tokenizer: PreTrainedTokenizerBase | None, now: datetime) -> tuple[Completion, Vote]:
    """A record's completion and vote; their ids follow from what they say. Raises Unusable and BadInput."""
    parts = flat(record)
    own = _own(record)
    row = _thumb(as_text(parts, None if own else tokenizer))
    texts = {name: row[name] for name in ("prompt", "completion")}
    label = 1 if row["label"] else -1
    time = _time(row["created_at"], now)
    if own:
        given, (vote_id, said) = own["given"], _vote_of(own, record)
        completion = _entry("completion", given | texts)
        if said["label"] == label:  # otherwise somebody has judged it anew since
            return completion, _entry("vote", said | {"vote_id": vote_id, "completion_id": completion.completion_id})
        person = said["person"]
    else:
        name = _id(texts)
        completion = _entry("completion", texts | {"completion_id": name, "model_version": UNKNOWN, "time": time})
        person = row["rater"] or f"anonymous-{_id(texts, label, row['created_at'])}"
    facts = {"completion_id": completion.completion_id, "person": person, "label": label}
    return completion, _entry("vote", facts | {"vote_id": _id(facts, row["created_at"]), "time": time})


def _thumb(row: Row) -> Row:
    if "chosen" in row:
        raise Unusable("expected a thumb or a rating, got a pair")
    if "label" in row:
        return thumb(row, AnyLength())
    sides = thumbs_of([rating(row, AnyLength())])
    if not sides:
        raise Unusable(f"rating: expected a like or a dislike, got {row['rating']}")
    return sides[0]


def _own(record: Row) -> Row | None:
    """What an export of a ledger says beside the texts."""
    for place in (record, record.get("data"), record.get("meta")):
        own = place.get(LEDGER) if isinstance(place, dict) else None
        if isinstance(own, dict) and isinstance(own.get("given"), dict) and isinstance(own.get("votes"), dict):
            return own
    return None


def _vote_of(own: Row, record: Row) -> tuple[str, Row]:
    """Which of the votes an annotation is, by its result's id; elsewhere there is one only."""
    results = (record.get("annotations") or [{}])[0].get("result") or []
    names = {result.get("id") for result in results if isinstance(result, dict)} if results else own["votes"].keys()
    for name, said in own["votes"].items():
        if name in names and isinstance(said, dict) and {"person", "label"} <= said.keys():
            return name, said
    raise Unusable(f"{LEDGER}.votes: expected the vote of this row, got none")


def _entry(kind: str, facts: Row) -> Any:
    return from_json(json.dumps({"kind": kind} | facts, default=datetime.isoformat).encode(), kind)


def _time(text: str | None, now: datetime) -> datetime:
    try:
        time = now if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise Unusable(f"created_at: expected a time as ISO 8601 has it, got {ascii(text)[:60]}") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _id(*what: Any) -> str:
    return f"import-{digest(json.dumps(what, sort_keys=True).encode())[:32]}"
