"""What live votes say: how many there are, which model people like, and whether the reward model still agrees."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from rlhf_ray.data.tables import Row

BINS = 10
HOURLY = timedelta(days=3)  # votes over a longer time are counted by the day


def facts_of(votes: Sequence[Row], judge: str, sides: tuple[str, str]) -> dict[str, Any]:
    """`votes_over_time`, `models`, `comparison` of the first side with the second, and `reward` of that `judge`.

    The votes are a ledger's live ones: label, time, arm, model_version, pair, person, probability, judge.
    """
    return {
        "votes_over_time": over_time(votes),
        "models": by_model(votes),
        "comparison": comparison(votes, *sides),
        "reward": against_reward(votes, judge),
    }


def over_time(votes: Sequence[Row]) -> dict[str, Any]:
    times = [vote["time"] for vote in votes]
    hourly = not times or max(times) - min(times) <= HOURLY
    counts: dict[datetime, Counter[int]] = defaultdict(Counter)
    for vote in votes:
        hour = vote["time"].replace(minute=0, second=0, microsecond=0)
        counts[hour if hourly else hour.replace(hour=0)][vote["label"]] += 1
    points = [{"time": time.isoformat(), "ups": count[1], "downs": count[-1]} for time, count in sorted(counts.items())]
    return {"unit": "hour" if hourly else "day", "points": points}


def by_model(votes: Iterable[Row]) -> list[dict[str, Any]]:
    """Each version of each model, with the share of thumbs up and its 95 % Wilson interval."""
    labels: dict[tuple[str, str], list[int]] = defaultdict(list)
    for vote in votes:
        labels[vote["arm"], vote["model_version"]].append(vote["label"])
    return [
        {"model": arm, "version": version, "votes": len(given), "ups": given.count(1)}
        | share(given.count(1), len(given), "share")
        for (arm, version), given in sorted(labels.items())
    ]


def comparison(votes: Iterable[Row], ours: str, theirs: str) -> dict[str, Any]:
    """Of the pairs on both of which a person voted: a win is a thumb up for ours and one down for theirs."""
    labels: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for vote in votes:
        if vote["pair"]:
            labels[vote["person"], vote["pair"]][vote["arm"]] = vote["label"]
    both = [given[ours] - given[theirs] for given in labels.values() if {ours, theirs} <= given.keys()]
    wins, losses = sum(each > 0 for each in both), sum(each < 0 for each in both)
    counts = {"pairs": len(both), "wins": wins, "losses": losses, "ties": len(both) - wins - losses}
    return counts | share(wins, wins + losses, "win_rate")


def against_reward(votes: Iterable[Row], judge: str) -> dict[str, Any]:
    """The share of thumbs up, with its interval, where that version of the reward model saw so much chance of them."""
    from sklearn.metrics import roc_auc_score  # a second to import: who serves should be there before it

    judged = [vote for vote in votes if vote["probability"] is not None and vote["judge"] == judge]
    ups = [vote["label"] == 1 for vote in judged]
    likely = [vote["probability"] for vote in judged]
    places: list[list[Row]] = [[] for _ in range(BINS)]
    for vote in judged:
        places[min(int(vote["probability"] * BINS), BINS - 1)].append(vote)
    auc = float(roc_auc_score(ups, likely)) if len(set(ups)) == 2 else None
    bins = [in_bin(place, inside) for place, inside in enumerate(places)]
    return {"version": judge, "votes": len(judged), "auc": auc, "bins": bins}


def in_bin(place: int, votes: Sequence[Row]) -> dict[str, Any]:
    """What was expected of one bin's votes, on average, and what they are."""
    ups = sum(vote["label"] == 1 for vote in votes)
    found = share(ups, len(votes), "share")
    return {
        "low": place / BINS,
        "high": (place + 1) / BINS,
        "votes": len(votes),
        "ups": ups,
        "probability": sum(vote["probability"] for vote in votes) / len(votes) if votes else None,
        "share": found["share"],
        "share_low": found["low"],
        "share_high": found["high"],
    }


def share(count: int, of: int, name: str) -> dict[str, float | None]:
    """With its 95 % Wilson interval; of nothing all are None."""
    from scipy.stats import binomtest  # as above

    if not of:
        return {name: None, "low": None, "high": None}
    interval = binomtest(count, of).proportion_ci(0.95, method="wilson")
    return {name: count / of, "low": float(interval.low), "high": float(interval.high)}
