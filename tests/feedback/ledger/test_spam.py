"""Somebody votes the wrong way as often as he can: what is learned from the ledger hardly notices."""

from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from rlhf_ray.feedback.intake import Feedback, read_feedback
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.incidents.world import make_corpus, rate_fairly

from .conftest import NOON, completion, vote

PLAIN = {"good", "vague", "hedged", "restated", "blaming", "no_resolution", "rambling"}  # what single words tell apart
PEOPLE, EACH, NOISE = 60, 18, 0.04
SPAM = 5  # times the votes of all others together


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return statements()


def statements() -> list[dict[str, Any]]:
    """With the thumbs that they deserve: those that people vote on, and then as many to measure on."""
    gold = [row for row in rate_fairly(make_corpus(5000, seed=1)) if row["kind"] in PLAIN]
    return gold[: 2 * PEOPLE * EACH]


def learned_from(folder: Path, tokenizer: Any, **more: Any) -> Feedback:
    return read_feedback([str(folder)], tokenizer, 1000, **more)


def accuracy(feedback: Feedback, measured: list[dict[str, Any]]) -> float:
    """Of a bag of words that learned from the thumbs."""
    words = CountVectorizer(ngram_range=(1, 2), min_df=2)
    seen = words.fit_transform([row["completion"] for row in feedback.thumbs])
    model = LogisticRegression(max_iter=500).fit(seen, [row["label"] for row in feedback.thumbs])
    said = model.predict(words.transform([row["completion"] for row in measured]))
    return float((said == np.array([row["label"] for row in measured])).mean())


def filled(folder: Path, rows: list[dict[str, Any]]) -> Ledger:
    """A ledger with a statement a completion, each with the thumb of somebody honest, who may err."""
    ledger, chance = Ledger.open(folder, "r0"), Random(0)
    for number, row in enumerate(rows):
        right = chance.random() >= NOISE
        facts = {"completion_id": f"c{number}", "person": f"p{number % PEOPLE}"}
        label = 1 if row["label"] == right else -1
        ledger.append_all(
            [
                completion(number, prompt=row["prompt"], completion=row["completion"]),
                vote(number, seconds=number, label=label, **facts),
            ]
        )
    return ledger


def spam(ledger: Ledger, rows: list[dict[str, Any]], times: int) -> None:
    """One person says the opposite of what is right, of everything, again and again."""
    places = [place for _ in range(times) for place in range(len(rows))]
    ledger.append_all(
        vote(
            number,
            vote_id=f"spam-{number}",
            completion_id=f"c{place}",
            person="spammer",
            label=-1 if rows[place]["label"] else 1,
            time=NOON + timedelta(hours=1, seconds=number),
        )
        for number, place in enumerate(places)
    )


def test_five_times_as_much_spam_costs_no_half_point(tmp_path: Path, rows, plain_tokenizer) -> None:
    seen, measured = rows[: PEOPLE * EACH], rows[PEOPLE * EACH :]
    with filled(tmp_path / "ledger", seen) as ledger:
        before = accuracy(learned_from(ledger.folder, plain_tokenizer), measured)
        spam(ledger, seen, SPAM)
        assert len(ledger._reader.votes()) == (1 + SPAM) * len(seen)
        spammed = learned_from(ledger.folder, plain_tokenizer)
        after = accuracy(spammed, measured)
        uncapped = accuracy(learned_from(ledger.folder, plain_tokenizer, votes_a_person=10**6), measured)
    print(f"gold accuracy {before:.3f}, with spam {after:.3f}, without the cap {uncapped:.3f}")
    assert before > 0.9
    assert after >= before - 0.005
    assert uncapped < before - 0.1, "the spam is spam"
    assert sum(row["rater"] == "spammer" for row in spammed.thumbs) == 20
    reasons = {row["reason"] for row in spammed.rejected}
    assert reasons == {f"rater: expected at most 20 votes, got {len(seen)}"}


def test_which_votes_of_a_person_count_stays_the_same_when_there_are_more(
    tmp_path: Path, rows, plain_tokenizer
) -> None:
    with filled(tmp_path / "ledger", rows[:100]) as ledger:
        spam(ledger, rows[:50], 1)
        first = {
            row["completion"]
            for row in learned_from(ledger.folder, plain_tokenizer).thumbs
            if row["rater"] == "spammer"
        }
        spam(ledger, rows[:60], 1)
        later = {
            row["completion"]
            for row in learned_from(ledger.folder, plain_tokenizer).thumbs
            if row["rater"] == "spammer"
        }
    assert len(first & later) > 12


def test_raters_of_a_file_are_known_and_not_capped(tmp_path: Path, write, plain_tokenizer) -> None:
    thumbs = [
        {"prompt": f"why {number}?", "completion": "the pool", "label": True, "rater": "ada"} for number in range(30)
    ]
    assert len(read_feedback([write(thumbs)], plain_tokenizer, 224).thumbs) == 30
