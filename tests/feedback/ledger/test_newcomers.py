"""S15: accounts that come on one day have a bounded share of what counts, and whoever trains is told who they are."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rlhf_ray.feedback import newcomers
from rlhf_ray.feedback.data import Data
from rlhf_ray.feedback.intake import Feedback
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.newcomers import FOUNDING, agreements, first_days, suspects, too_many
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.ready import prepare
from rlhf_ray.feedback.secret import read_secret
from rlhf_ray.feedback.snapshots import snapshot
from rlhf_ray.seeds import derive

from .conftest import NOON, completion, vote
from .test_spam import EACH, NOISE, PEOPLE, accuracy, learned_from, statements
from .test_sybils import VOTES

DAYS = 15  # on which the honest come, four a day
CROWDS = (0, 10, 20, 40, 80)  # accounts that come together


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return statements()


def grown(folder: Path, rows: list[dict[str, Any]], sybils: int, *, days: int = DAYS, noise: float = NOISE) -> Path:
    """A ledger of honest people who came one after the other, and of accounts that all came a day after the last."""
    chance, entries = Random(0), []
    for number, row in enumerate(rows):
        person, right = number % PEOPLE, chance.random() >= noise
        time = NOON + timedelta(days=person * days // PEOPLE, seconds=number)
        facts = {"completion_id": f"c{number}", "person": f"p{person}", "time": time}
        entries.append(completion(number, prompt=row["prompt"], completion=row["completion"]))
        entries.append(vote(number, label=1 if row["label"] == right else -1, **facts))
    for number in range(sybils * VOTES):
        place, time = number % len(rows), NOON + timedelta(days=days, seconds=number)
        facts = {"completion_id": f"c{place}", "person": f"together-{number // VOTES}", "time": time}
        entries.append(vote(number, vote_id=f"together-{number}", label=-1 if rows[place]["label"] else 1, **facts))
    with Ledger.open(folder, "r0") as ledger:
        ledger.append_all(entries)
    return folder


def test_eighty_who_come_together_change_as_little_as_twenty_and_are_named(tmp_path, rows, plain_tokenizer) -> None:
    seen, measured = rows[: PEOPLE * EACH], rows[PEOPLE * EACH :]
    learned: dict[int, float] = {}
    for sybils in CROWDS:
        capped = learned_from(grown(tmp_path / f"{sybils}", seen, sybils), plain_tokenizer)
        learned[sybils] = accuracy(capped, measured)
        counted, named, wrongly = told(capped, sybils, learned[sybils])
        assert counted <= 0.1 * len(capped.thumbs)
        assert len(capped.thumbs) - counted == len(seen), "no honest vote is left out"
        assert named >= 0.8 * sybils
        assert not wrongly
    assert min(learned.values()) > learned[0] - 0.04, "by the draw: 0.884 to 0.916 of ten secrets"


@pytest.mark.slow
def test_people_who_often_err_are_hardly_ever_named(tmp_path, rows, plain_tokenizer) -> None:
    for sybils in CROWDS:
        ledger = grown(tmp_path / f"{sybils}", rows[: PEOPLE * EACH], sybils, noise=0.2)
        capped = learned_from(ledger, plain_tokenizer)
        _, named, wrongly = told(capped, sybils, accuracy(capped, rows[PEOPLE * EACH :]))
        assert named >= 0.6 * sybils
        assert wrongly <= 2


@pytest.mark.slow
def test_a_team_that_comes_in_four_days_pays_for_it(tmp_path, rows, plain_tokenizer) -> None:
    ledger = grown(tmp_path / "ledger", rows[: PEOPLE * EACH], 0, days=4)
    capped, free = (learned_from(ledger, plain_tokenizer, newcomers_share=share) for share in (0.1, 1))
    lost, paid = (accuracy(each, rows[PEOPLE * EACH :]) for each in (capped, free))
    print(f"{len(capped.thumbs)} of {len(free.thumbs)} votes count: accuracy {lost:.3f}, of all {paid:.3f}")
    assert paid - 0.03 < lost


def told(feedback: Feedback, sybils: int, right: float) -> tuple[int, int, int]:
    """How many of their votes count, how many of them are named, and how many others."""
    named = [row["rater"].startswith("together") for row in feedback.suspects()]
    counted = sum(row["rater"].startswith("together") for row in feedback.thumbs)
    print(
        f"{sybils} accounts: accuracy {right:.3f}; {counted} of {sybils * VOTES} votes count; "
        f"{sum(named)} named, and {len(named) - sum(named)} honest people"
    )
    return counted, sum(named), len(named) - sum(named)


def test_the_report_names_them(tmp_path, rows, plain_tokenizer) -> None:
    ledger = grown(tmp_path / "ledger", rows[: PEOPLE * EACH], 40)
    ready = prepare(Data(feedback=[str(ledger)]), plain_tokenizer, most_tokens=1000, prompt_tokens=1000, seed=0)
    report = ready.report(plain_tokenizer)
    (warning,) = [each for each in report["warnings"] if "that came on 2026-12-10 gave" in each]
    assert warning.startswith("40 accounts that came on 2026-12-10 gave 400 votes, of which 120 count")
    assert "and 37 more" in warning
    reason = "rater: expected at most 120 votes of accounts that came on 2026-12-10"
    assert report["rejected"]["by_reason"] == {reason: 280}


def votes(sizes: list[int]) -> list[dict[str, Any]]:
    """So many votes on each day after the other, of one account each two."""
    return [
        {
            "prompt": "p",
            "completion": f"said {number % 2}",
            "label": number % 2 == 0,
            "rater": f"{day}-{number // 2}",
            "given": NOON + timedelta(days=day),
            "came": NOON + timedelta(days=day),
            "lot": derive(day, number),
        }
        for day, size in enumerate(sizes)
        for number in range(size)
    ]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.4, 1])
def test_no_day_has_more_than_its_share_of_what_counts(share: float) -> None:
    chance = Random(1)
    for _ in range(100):
        sizes = [FOUNDING, *(int(chance.paretovariate(0.7) * 10) % 3000 for _ in range(chance.randrange(1, 25)))]
        given = votes(sizes)
        days = first_days(given)
        left_out = too_many(given, days, share)
        counted = Counter(days[row["rater"]] for place, row in enumerate(given) if place not in left_out)
        first, *later = (counted[day] for day in sorted(set(days.values())))
        assert first == FOUNDING
        assert max(later) <= share * counted.total()
        for size, count in zip(filter(None, sizes[1:]), later, strict=True):
            assert count == size or count > share * counted.total() - 1, "nothing is left out that could count"


@pytest.mark.parametrize("pinned", [False, True])
def test_whoever_votes_again_came_when_he_came(tmp_path, rows, plain_tokenizer, pinned: bool) -> None:
    """A founder who corrects all that he said, and a crowd that votes again on as many days as it has accounts."""
    ledger = grown(tmp_path / "ledger", rows[: PEOPLE * EACH], 40)
    before = learned_from(ledger, plain_tokenizer)
    said = Reader(ledger).live_votes()
    with Ledger.open(ledger, "r0") as opened:
        for number, row in enumerate(said):
            days = int(row["person"][9:]) if row["person"].startswith("together") else row["person"] == "p0"
            if days:
                facts = {name: row[name] for name in ("completion_id", "person")}
                time = NOON + timedelta(days=DAYS + days, hours=1)
                opened.append(vote(number, vote_id=f"again-{number}", label=-row["label"], time=time, **facts))
    source = ledger / "snapshots" / snapshot(ledger) if pinned else ledger
    after = learned_from(source, plain_tokenizer)
    assert Counter(row["rater"] for row in after.thumbs) == Counter(row["rater"] for row in before.thumbs)
    assert [row["first_day"] for row in after.suspects() if row["crowd"]] == 40 * ["2026-12-10"]


def test_who_may_choose_his_name_cannot_choose_a_lucky_one(tmp_path, rows, plain_tokenizer) -> None:
    """What is drawn in one ledger says nothing of another."""
    drawn = []
    for name in ("one", "other"):
        ledger = grown(tmp_path / name, rows[: PEOPLE * EACH], 40)
        read_secret(ledger)
        thumbs = [learned_from(ledger, plain_tokenizer).thumbs for _ in range(2)]
        assert thumbs[0] == thumbs[1]
        drawn.append({(row["rater"], row["completion"]) for row in thumbs[0] if row["rater"].startswith("together")})
    assert len(drawn[0] & drawn[1]) < 0.6 * 120, "120 of 400 are drawn: 36 both times by chance"


def test_in_a_young_ledger_everybody_counts() -> None:
    for sizes in ([5000], [200, 5000], [100, 100, 5000]):
        given = votes(sizes)
        assert not too_many(given, first_days(given), 0.1)
    assert not suspects(given[:100], first_days(given[:100]), {})


def test_founders_are_who_came_until_the_votes_were_enough_by_when_each_was_given() -> None:
    given = votes([400, 200, 150, 4000])
    for row in given[50:400]:
        row |= {"given": NOON + timedelta(days=3)}  # of accounts that came first and voted last
    days = first_days(given)
    left_out = too_many(given, days, 0.1)
    assert {days[given[place]["rater"]] for place in left_out} == {"2026-11-28"}, "the third day had the 300th vote"


def test_votes_are_held_against_no_more_than_so_many_others(monkeypatch) -> None:
    given = votes([400, 400])
    for row in given:
        row["lot"] += 2**63 * (not row["label"])  # who says no is drawn last
    days = first_days(given)
    assert agreements(given, days, {})
    monkeypatch.setattr(newcomers, "LESSONS", 200)
    assert not agreements(given, days, {}), "all lessons say yes"


def test_which_votes_of_a_day_count_stays_the_same_when_there_are_more() -> None:
    def counted(sizes: list[int]) -> set[str]:
        given = votes(sizes)
        left_out = too_many(given, first_days(given), 0.1)
        return {row["rater"] for place, row in enumerate(given) if place not in left_out and row["rater"][0] == "1"}

    assert len(counted([900, 500]) & counted([900, 520, 50])) > 0.8 * 100 / 2


def test_whoever_votes_against_the_others_is_named_and_where_they_are_few_they_count() -> None:
    given = votes([400, 20])
    for row in given[400:]:
        row |= {"label": not row["label"], "rater": "against"}
    days = first_days(given)
    assert not too_many(given, days, 0.1)
    row = {"rater": "against", "first_day": "2026-11-26", "votes": 20, "counted": 20, "agreement": 0.0, "crowd": False}
    assert suspects(given, days, {}) == [row]
