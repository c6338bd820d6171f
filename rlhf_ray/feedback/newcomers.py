"""Accounts of a ledger that came on one day: whoever makes many accounts to vote with mostly makes them at once.

The first days of a ledger found it: nobody can tell whom to trust before there is enough to learn from. Of every later
day the accounts that came on it have no more than a share of the votes that count, together.

Votes are thumbs with `rater`, `given` (when he first voted on it), `came` (when he first voted at all) and `lot` (by
which votes are drawn), as Reader.dated_votes has them.
"""

from collections import Counter, defaultdict
from collections.abc import Container
from datetime import UTC, datetime
from itertools import pairwise

from scipy.stats import binom
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from rlhf_ray.data.tables import Row

FOUNDING = 300  # votes with which a ledger is founded; who came by the day of the last of them is a founder
FOLDS = 5
LESSONS = 20_000  # most votes that somebody's are held against; which ones is drawn
BY_CHANCE = 0.02  # how likely somebody who throws a coin may be to agree as rarely


def first_days(votes: list[Row]) -> dict[str, str]:
    """The UTC date on which each rater came, whatever votes of his are looked at."""
    days: dict[str, str] = {}
    for vote in votes:
        day = _day(vote["came"])
        days[vote["rater"]] = min(day, days.get(vote["rater"], day))
    return days


def too_many(votes: list[Row], days: dict[str, str], share: float) -> dict[int, str]:
    """Places of the votes that do not count, and why.

    Which votes of a day count follows from their lots, so most stay the same when there are new ones.
    """
    if len(votes) <= FOUNDING:
        return {}
    founded = sorted(_day(vote["given"]) for vote in votes)[FOUNDING - 1]
    newcomers = {day: places for day, places in sorted(_by_day(votes, days).items()) if day > founded}
    sizes = [len(places) for places in newcomers.values()]
    most = int(_most(len(votes) - sum(sizes), sizes, share))
    left_out: dict[int, str] = {}
    for day, places in newcomers.items():
        drawn = sorted(places, key=lambda place: votes[place]["lot"])
        reason = f"rater: expected at most {most} votes of accounts that came on {day}, got {len(places)}"
        left_out |= dict.fromkeys(drawn[most:], reason)
    return left_out


def agreements(votes: list[Row], days: dict[str, str], left_out: Container[int]) -> dict[str, tuple[int, int]]:
    """By rater how many of his votes are what others would have given, and how many he gave.

    What others would have given is what a logistic regression learned from the words that they liked, whose accounts
    came on other days and whose votes count. Nothing where all came on one day, or others have one label alone.
    """
    groups = [days[vote["rater"]] for vote in votes]
    agreed: dict[str, list[bool]] = defaultdict(list)
    folds = min(FOLDS, len(set(groups)))
    for others, asked in GroupKFold(folds).split(votes, groups=groups) if folds > 1 else ():
        counted = sorted((votes[place] for place in others if place not in left_out), key=lambda vote: vote["lot"])
        learned = counted[:LESSONS]
        if len({vote["label"] for vote in learned}) < 2:
            return {}
        model = make_pipeline(CountVectorizer(analyzer=_words), LogisticRegression(max_iter=500))
        model.fit([vote["completion"] for vote in learned], [vote["label"] for vote in learned])
        expected = model.predict([votes[place]["completion"] for place in asked])
        for place, label in zip(asked, expected, strict=True):
            agreed[votes[place]["rater"]].append(bool(votes[place]["label"] == label))
    return {rater: (sum(each), len(each)) for rater, each in agreed.items()}


def suspects(votes: list[Row], days: dict[str, str], left_out: Container[int]) -> list[Row]:
    """Accounts that came on a day of which votes were left out, or that agree with others more rarely than by chance.

    `rater, first_day, votes, counted, agreement` (None: unknown), `crowd` (whether it is its day that was too many).
    """
    found = agreements(votes, days, left_out)
    given = Counter(vote["rater"] for vote in votes)
    counted = Counter(vote["rater"] for place, vote in enumerate(votes) if place not in left_out)
    crowded = {days[rater] for rater in given if counted[rater] < given[rater]}
    rows: list[Row] = []
    for rater, count in sorted(given.items()):
        agreed, of = found.get(rater, (0, 0))
        crowd, at_odds = days[rater] in crowded, bool(of) and binom.cdf(agreed, of, 0.5) < BY_CHANCE
        if crowd or at_odds:
            row = {"rater": rater, "first_day": days[rater], "votes": count, "counted": counted[rater]}
            rows.append(row | {"agreement": agreed / of if of else None, "crowd": crowd})
    return sorted(rows, key=lambda row: (row["agreement"] is None, row["agreement"]))


def _most(founders: int, newcomers: list[int], share: float) -> float:
    """Votes of one day at which no day's have more than that share of all that count then."""
    largest_first = sorted(newcomers, reverse=True)
    limits = (
        share * (founders + sum(largest_first[capped:])) / (1 - share * capped) for capped in range(len(newcomers) + 1)
    )
    return next(limit for limit, size in zip(limits, [*largest_first, 0], strict=True) if size <= limit)


def _by_day(votes: list[Row], days: dict[str, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, vote in enumerate(votes):
        found[days[vote["rater"]]].append(place)
    return found


def _words(text: str) -> list[str]:
    """Words, pairs of them, and one that every text has, since a text may be empty."""
    words = text.split()
    return ["", *words, *map(" ".join, pairwise(words))]


def _day(time: datetime) -> str:
    return time.astimezone(UTC).date().isoformat()
