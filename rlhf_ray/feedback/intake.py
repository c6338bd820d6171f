"""The door for feedback of one's own: what people bring becomes thumbs and pairs, or is rejected with a reason."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.feedback import newcomers, ratings
from rlhf_ray.feedback.conversation import as_text
from rlhf_ray.feedback.forms import EXPECTED, asked, flat, separate
from rlhf_ray.feedback.judgement import Room, Unusable, pair, rating, text, thumb
from rlhf_ray.feedback.sources import is_kept, read_records
from rlhf_ray.seeds import derive

MOST_CONTENT = 4096  # characters of a rejected row that are kept


@dataclass(frozen=True)
class Feedback:
    """`thumbs` (prompt, completion, label, rater, created_at), `pairs` (prompt, chosen, rejected, margin, rater,
    created_at), the `rejected` (source, row, reason, content), whose rows are numbered from 0, and what finds the
    `suspects` of newcomers.suspects, which takes a while."""

    thumbs: list[Row]
    pairs: list[Row]
    rejected: list[Row]
    suspects: Callable[[], list[Row]]


@dataclass(frozen=True)
class Judgement:
    """A row in its normal form, and the record that it was made of."""

    row: Row
    record: Any
    source: str
    number: int

    def turned_away(self, reason: str) -> Row:
        return rejection(self.source, self.number, reason, self.record)


def read_feedback(
    sources: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    most_tokens: int,
    votes_a_person: int = 20,
    newcomers_share: float = 0.1,
) -> Feedback:
    """Everything in the sources, but of a ledger no more than so many votes a person, and no larger share a day's
    newcomers.

    A prompt and its completion may have `most_tokens` with end-of-text.

    Raises BadInput where a source is missing, damaged, of no known form or without a usable row, or where it holds
    conversations and the tokenizer has no chat template.
    """
    room = Room(tokenizer, most_tokens)
    judgements: list[Judgement] = []
    rejected: list[Row] = []
    for source in sources:
        good, bad = _read(source, lambda record: _normal(as_text(flat(record), tokenizer), room), EXPECTED)
        judgements += good
        rejected += bad
    judgements, suspects = _capped(_once(judgements, rejected), votes_a_person, newcomers_share, rejected)
    stars = [judgement.row for judgement in judgements if "rating" in judgement.row]
    pairs = ratings.pairs_of(stars)
    paired = {(row["prompt"], row[side]) for row in pairs for side in ("chosen", "rejected")}
    for judgement in judgements:
        if "rating" in judgement.row and ratings.says_nothing(judgement.row, paired):
            reason = (
                "rating: expected a like, a dislike, or another rating of the same prompt to pair it with, got none"
            )
            rejected.append(judgement.turned_away(reason))
    thumbs = [judgement.row for judgement in judgements if "label" in judgement.row] + ratings.thumbs_of(stars)
    pairs = [judgement.row for judgement in judgements if "chosen" in judgement.row] + pairs
    if not thumbs and not pairs:
        raise BadInput(f"{', '.join(sources)}: expected feedback, got none that says anything ({_most(rejected)})")
    return Feedback(thumbs, pairs, rejected, suspects)


def read_prompts(source: str, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> tuple[list[str], list[Row]]:
    """The prompts of a table with that column, each once, and the rows that were rejected. Raises BadInput.

    A prompt may have `most_tokens`.
    """
    room = Room(tokenizer, most_tokens + 1)

    def normal(record: Any) -> Row:
        row = as_text(asked(record), tokenizer)
        room.check_prompt(text(row, "prompt"))
        return row

    good, rejected = _read(source, normal, "a column prompt")
    return [judgement.row["prompt"] for judgement in _once(good, rejected)], rejected


def rejection(source: str, number: int, reason: str, record: Any) -> Row:
    content = json.dumps(record, ensure_ascii=False, default=str)[:MOST_CONTENT]
    return {
        "source": source,
        "row": number,
        "reason": reason.encode("utf-8", "backslashreplace").decode(),
        "content": content.encode("utf-8", "backslashreplace").decode(),
    }


def kind_of(reason: str) -> str:
    """A reason without what is particular to its row."""
    return reason.split(", got")[0].split(" of row")[0]


def _read(source: str, normal: Callable[[Any], Row], expected: str) -> tuple[list[Judgement], list[Row]]:
    good: list[Judgement] = []
    bad: list[Row] = []
    for number, record in enumerate(read_records(source)):
        for part in separate(record):
            try:
                good.append(Judgement(normal(part), part, source, number))
            except Unusable as reason:
                bad.append(rejection(source, number, str(reason), part))
            except BadInput as mistake:
                raise BadInput(f"{source}: row {number}: {mistake}") from None
    if not good:
        raise BadInput(f"{source}: expected {expected}, got no usable row ({_most(bad)})")
    return good, bad


def _normal(row: Row, room: Room) -> Row:
    form = pair if "chosen" in row else thumb if "label" in row else rating
    return form(row, room)


def _once(judgements: list[Judgement], rejected: list[Row]) -> list[Judgement]:
    """The first of those who say the same of the same by the same rater; the others are put to the rejected."""
    first: dict[tuple, Judgement] = {}
    for judgement in judgements:
        said = tuple(value for name, value in judgement.row.items() if name not in ("created_at", "margin"))
        known = first.setdefault((*judgement.row, *said), judgement)
        if known is not judgement:
            elsewhere = "" if known.source == judgement.source else f" in {known.source}"
            rejected.append(judgement.turned_away(f"duplicate of row {known.number}{elsewhere}"))
    return list(first.values())


def _capped(
    judgements: list[Judgement], most: int, share: float, rejected: list[Row]
) -> tuple[list[Judgement], Callable[[], list[Row]]]:
    """Whoever may vote in a ledger is not known as the raters of a file are: nobody there says more than others, and
    not those together who came on one day. Also what finds the suspects among them."""
    ledgers = {source for source in {judgement.source for judgement in judgements} if is_kept(source)}
    votes = [judgement for judgement in judgements if judgement.source in ledgers]
    dated = ("given", "came", "lot")  # of which a judgement knows nothing
    all_rows = {id(vote): vote.row | {name: vote.record[name] for name in dated} for vote in votes}
    days = newcomers.first_days(list(all_rows.values()))
    left_out = _too_many_of_a_person(votes, most)
    counted = [vote for vote in votes if id(vote) not in left_out]
    rows = [all_rows[id(vote)] for vote in counted]
    crowd = newcomers.too_many(rows, days, share)
    left_out |= {id(counted[place]): reason for place, reason in crowd.items()}
    rejected += [vote.turned_away(left_out[id(vote)]) for vote in votes if id(vote) in left_out]
    return [each for each in judgements if id(each) not in left_out], partial(newcomers.suspects, rows, days, crowd)


def _too_many_of_a_person(votes: list[Judgement], most: int) -> dict[int, str]:
    """The reason by the id of each vote that does not count.

    Which votes of a person count follows from what they are on alone, so most stay the same when there are new ones.
    """
    said: dict[str, list[Judgement]] = defaultdict(list)
    for vote in votes:
        said[vote.row["rater"]].append(vote)
    left_out: dict[int, str] = {}
    for person, given in said.items():
        given.sort(key=lambda vote: derive("votes", person, vote.row["prompt"], vote.row["completion"]))
        reason = f"rater: expected at most {most} votes, got {len(given)}"
        left_out |= {id(vote): reason for vote in given[most:]}
    return left_out


def _most(rejected: list[Row]) -> str:
    """The most frequent reason, in words."""
    if not rejected:
        return "there are none"
    (kind, count), *_ = Counter(kind_of(row["reason"]) for row in rejected).most_common(1)
    example = next(row["reason"] for row in rejected if kind_of(row["reason"]) == kind)
    return f"{count} of {len(rejected)}: {example}"
