"""The demo's world can be learned from, cannot be guessed, and keeps what is held out apart."""

import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from statistics import correlation

import pytest

from rlhf_ray.data.tables import Row
from rlhf_ray.incidents.catalogue import Cause, load_catalogue
from rlhf_ray.incidents.incident import PROOF_OF_CONCEPT_SYMPTOMS, incidents, is_heldout, read_prompt
from rlhf_ray.incidents.raters import LIKED_FROM, Rater, deserves_thumb_up, gather_raters
from rlhf_ray.incidents.rubric import judge
from rlhf_ray.incidents.statements import KINDS, write
from rlhf_ray.incidents.world import (
    PROMPT_COLUMNS,
    STATEMENT_COLUMNS,
    holds_heldout_wording,
    incident_of,
    make_base_corpus,
    make_corpus,
    make_prompts,
    proof_of_concept_prompts,
    quality,
    rate,
    rate_fairly,
    write_statements,
)

CATALOGUE = load_catalogue()
CAUSES = list(CATALOGUE.causes.values())
OPENING = re.compile(r"Provide a Root Cause Analysis for the recent ([\w ]+?)(?: in (\w+))?\.")


@pytest.fixture(scope="module")
def train() -> list[Row]:
    return make_prompts(2000, 7, heldout=False)


@pytest.fixture(scope="module")
def heldout() -> list[Row]:
    return make_prompts(200, 7, heldout=True)


@pytest.fixture(scope="module")
def reworded() -> list[Row]:
    return make_prompts(100, 7, heldout=True, wordings="heldout")


@pytest.fixture(scope="module")
def corpus() -> list[Row]:
    return make_corpus(2000, 7)


def evidence(row: Row) -> list[str]:
    _, *lines = row["prompt"].splitlines()
    assert all(line.startswith("- ") for line in lines)
    return [line.removeprefix("- ") for line in lines]


def fitting(line: str) -> set[str]:
    """The causes that leave this line of evidence."""
    return {cause.name for cause in CAUSES if line in cause.signs.all or line in cause.triggers.all}


def phrases() -> Iterator[tuple[str, str]]:
    """Every phrase once, with whom it belongs to: a cause, its family where it is a sign, or its trigger."""
    for cause in CAUSES:
        yield from ((cause.name, phrase) for part in cause.statement_phrases for phrase in part.all)
    for cause in {cause.family: cause for cause in CAUSES}.values():
        yield from ((f"family {cause.family}", phrase) for phrase in cause.signs.all)
    for cause in {cause.trigger: cause for cause in CAUSES}.values():
        yield from ((f"trigger {cause.trigger}", phrase) for phrase in cause.triggers.all)


def plain(phrase: str) -> str:
    """As the judge compares: lower case, no punctuation, no leading article."""
    words = re.findall(r"[a-z0-9{}]+", phrase.lower())
    return f" {' '.join(words[1:] if words[0] in ('a', 'an', 'the', 'one') else words)} "


# --- The catalogue ---


def test_the_catalogue_is_large_enough() -> None:
    assert len(CATALOGUE.services) == len(set(CATALOGUE.services)) >= 24
    assert len(CATALOGUE.symptoms) == 12
    assert len(CATALOGUE.causes) == 24
    for cause in CAUSES:
        for part in (*cause.statement_phrases, cause.signs, cause.triggers):
            assert len(set(part.all)) == len(part.all) >= 4, cause.name


def test_the_symptoms_of_the_proof_of_concept_exist() -> None:
    assert set(PROOF_OF_CONCEPT_SYMPTOMS) == {"API latency spike", "database connection failure", "user login outage"}
    assert set(PROOF_OF_CONCEPT_SYMPTOMS) <= set(CATALOGUE.symptoms)


def test_every_symptom_has_several_families_and_every_family_shows_as_some_symptom() -> None:
    explained = [family for symptom in CATALOGUE.symptoms.values() for family in symptom.families]
    assert set(explained) == {cause.family for cause in CAUSES}
    assert all(len(set(symptom.families)) >= 3 for symptom in CATALOGUE.symptoms.values())


def test_every_wording_names_the_service_once_and_nothing_else_does() -> None:
    for cause in CAUSES:
        assert all(wording.count("{service}") == 1 for wording in cause.wordings.all)
        others = (cause.mechanisms, cause.fixes, cause.preventions, cause.signs, cause.triggers)
        assert not any("{" in phrase for part in others for phrase in part.all)


def test_no_phrase_belongs_to_two() -> None:
    counts = Counter(plain(phrase) for _, phrase in phrases())
    assert [phrase for phrase, count in counts.items() if count > 1] == []


def test_no_phrase_is_part_of_anothers_phrase() -> None:
    every = [(owner, plain(phrase)) for owner, phrase in phrases()]
    parts = [(part, whole) for a, part in every for b, whole in every if a != b and part in whole]
    assert parts == []


def test_no_noise_is_evidence() -> None:
    assert len(set(CATALOGUE.noise)) == len(CATALOGUE.noise)
    assert not any(fitting(line) for line in CATALOGUE.noise)


def test_each_cause_has_one_sibling_with_its_signs_and_without_its_trigger() -> None:
    for cause in CAUSES:
        alike = [c for c in CAUSES if c != cause and set(c.signs.all) & set(cause.signs.all)]
        assert alike == [CATALOGUE.sibling(cause)]
        assert alike[0].signs == cause.signs
        assert alike[0].trigger != cause.trigger
        assert not set(alike[0].triggers.all) & set(cause.triggers.all)


def test_no_single_evidence_line_decides_the_cause() -> None:
    for cause in CAUSES:
        assert all(len(fitting(sign)) == 2 for sign in cause.signs.all)
        assert all(len(fitting(trigger)) == 4 for trigger in cause.triggers.all)


def test_no_sign_decides_the_cause_of_a_known_symptom() -> None:
    for symptom in CATALOGUE.symptoms:
        explaining = {cause.name for cause in CATALOGUE.explaining(symptom)}
        for cause in CATALOGUE.explaining(symptom):
            assert all(len(fitting(sign) & explaining) == 2 for sign in cause.signs.all)


def test_every_pair_of_sign_and_trigger_decides_the_cause() -> None:
    for cause in CAUSES:
        for sign in cause.signs.all:
            for trigger in cause.triggers.all:
                assert fitting(sign) & fitting(trigger) == {cause.name}


# --- Prompts ---


def holds(part: tuple[str, ...], lines: list[str]) -> bool:
    return any(line in part for line in lines)


def test_prompts_ask_for_an_analysis_of_their_incident(
    train: list[Row], heldout: list[Row], reworded: list[Row]
) -> None:
    for row in [*train, *heldout, *reworded]:
        assert tuple(row) == PROMPT_COLUMNS
        assert row["prompt"].endswith("\n")
        opening = OPENING.fullmatch(row["prompt"].splitlines()[0])
        assert opening
        assert (opening[1], opening[2] or "") == (row["symptom"], row["service"])


def test_prompts_hold_two_to_four_evidence_lines_or_none(train: list[Row], heldout: list[Row]) -> None:
    assert {len(evidence(row)) for row in train} == {0, 2, 3, 4}
    for row in [*train, *heldout]:
        lines = evidence(row)
        assert len(set(lines)) == len(lines)
        assert bool(lines) == bool(row["cause"])


def test_evidence_holds_a_sign_and_a_trigger_of_the_true_cause_and_of_no_other(
    train: list[Row], heldout: list[Row], reworded: list[Row]
) -> None:
    for row in [*train, *heldout, *reworded]:
        if not row["cause"]:
            continue
        cause: Cause = CATALOGUE.causes[row["cause"]]
        lines = evidence(row)
        assert holds(cause.signs.all, lines)
        assert holds(cause.triggers.all, lines)
        telling = [line for line in lines if line not in CATALOGUE.noise]
        assert set.intersection(*map(fitting, telling)) == {cause.name}


def test_the_place_of_a_line_does_not_tell_a_sign_from_a_trigger(train: list[Row]) -> None:
    first = [evidence(row)[0] for row in train if row["cause"]]
    for part in ({s for c in CAUSES for s in c.signs.all}, {t for c in CAUSES for t in c.triggers.all}):
        assert 0.2 < sum(line in part for line in first) / len(first) < 0.6


def test_every_cause_symptom_and_service_is_asked_about(train: list[Row]) -> None:
    assert {row["cause"] for row in train} == {"", *CATALOGUE.causes}
    assert {row["symptom"] for row in train} == set(CATALOGUE.symptoms)
    assert {row["service"] for row in train} == {"", *CATALOGUE.services}


def test_heldout_prompts_differ(heldout: list[Row], reworded: list[Row]) -> None:
    for rows, count in ((heldout, 200), (reworded, 100)):
        assert len({row["prompt"] for row in rows}) == len(rows) == count


# --- The split ---


def test_no_incident_is_on_both_sides_of_the_split() -> None:
    ours, theirs = set(incidents(heldout=False)), set(incidents(heldout=True))
    assert not ours & theirs
    assert 0.15 < len(theirs) / len(ours | theirs) < 0.25
    explaining = [len(CATALOGUE.explaining(symptom)) for symptom in CATALOGUE.symptoms]
    assert len(ours | theirs) == len(CATALOGUE.services) * sum(1 + count for count in explaining)


def test_prompts_and_corpus_keep_to_their_side(train: list[Row], corpus: list[Row], heldout: list[Row]) -> None:
    # Incidents without a service are on neither side: the split is by symptom, service and cause.
    assert not any(is_heldout(incident_of(row)) for row in [*train, *corpus] if row["service"])
    assert all(is_heldout(incident_of(row)) for row in heldout)


def test_no_train_prompt_is_a_heldout_prompt_or_of_the_proof_of_concept(
    train: list[Row], corpus: list[Row], heldout: list[Row], reworded: list[Row]
) -> None:
    asked = {row["prompt"] for row in [*train, *corpus]}
    assert not asked & {row["prompt"] for row in [*heldout, *reworded]}
    assert not asked & {row["prompt"] for row in proof_of_concept_prompts()}


def test_prompts_of_the_proof_of_concept_name_a_symptom_and_nothing_else() -> None:
    assert [row["prompt"] for row in proof_of_concept_prompts()] == [
        f"Provide a Root Cause Analysis for the recent {symptom}.\n" for symptom in PROOF_OF_CONCEPT_SYMPTOMS
    ]


def test_training_never_shows_a_heldout_wording(train: list[Row], heldout: list[Row], corpus: list[Row]) -> None:
    assert not any(holds_heldout_wording(row["prompt"]) for row in [*train, *heldout, *corpus])
    assert not any(holds_heldout_wording(row["completion"]) for row in corpus)


def test_prompts_in_heldout_wordings_show_them(reworded: list[Row]) -> None:
    assert all(holds_heldout_wording(row["prompt"]) for row in reworded)


def test_a_heldout_wording_is_known_whatever_the_service_and_the_case() -> None:
    for cause in CAUSES:
        for part in (*cause.statement_phrases, cause.signs, cause.triggers):
            said = f"We saw this: {part.heldout.format(service='checkout')} And more."
            assert holds_heldout_wording(said)
            assert holds_heldout_wording(said.upper())
            for seen in part.all[:-1]:
                assert not holds_heldout_wording(seen.format(service="checkout"))


# --- Statements and seeds ---


def test_the_corpus_holds_every_kind_good_and_bad(corpus: list[Row]) -> None:
    counts = Counter(row["kind"] for row in corpus)
    assert set(counts) == set(KINDS)
    assert all(tuple(row) == STATEMENT_COLUMNS for row in corpus)
    liked = sum(deserves_thumb_up(quality(row)) for row in corpus) / len(corpus)
    assert 0.25 < liked < 0.5


@pytest.mark.parametrize("kind", ["wrong_cause", "wrong_component", "wrong_mechanism", "wrong_fix", "denied"])
def test_what_is_wrong_comes_in_the_forms_in_which_what_is_right_comes(kind: str) -> None:
    """Two thousand of each: a standard deviation of a share is about 0.011, so 0.06 is out of reach by chance."""
    pool = [incident for incident in incidents(heldout=False) if incident.cause]

    def forms(written: str) -> Counter[int]:
        rng = Random(8)
        return Counter(write(written, rng.choice(pool), rng).count(". ") for _ in range(2000))

    right, wrong = forms("good"), forms(kind)
    assert set(right) == set(wrong)
    assert all(abs(right[sentences] - wrong[sentences]) / 2000 < 0.06 for sentences in right)


def test_the_bases_corpus_has_a_true_verdict_behind_every_statement() -> None:
    rows = make_base_corpus(300, 300, 7)
    assert [row["quoted"] for row in rows] == [False] * 300 + [True] * 300
    assert all(tuple(row) == ("prompt", "completion", "review", "quoted") for row in rows)
    assert {row["review"] for row in rows} == {kind.review for kind in KINDS.values()}
    assert [kind for kind in KINDS if KINDS[kind].review.startswith("Accepted")] == ["good"]
    for row in rows:
        verdict = judge(read_prompt(row["prompt"]), row["completion"])
        assert row["review"].startswith("Accepted") == deserves_thumb_up(verdict.score)


def test_length_says_nothing_of_the_label() -> None:
    rows = make_corpus(4000, 3)
    words = [len(row["completion"].split()) for row in rows]
    labels = [deserves_thumb_up(quality(row)) for row in rows]
    assert abs(correlation(words, labels)) < 0.1


def test_where_no_component_is_named_none_is_wrong() -> None:
    rows = make_corpus(3000, 9, for_review=True)
    assert any(not row["service"] for row in rows)
    assert all(row["service"] for row in rows if row["kind"] == "wrong_component")


def test_the_same_seed_gives_the_same_tables_and_another_gives_others() -> None:
    def tables(seed: int) -> list[list[Row]]:
        prompts = make_prompts(50, seed, heldout=False)
        written = write_statements(prompts, seed)
        return [
            prompts,
            make_prompts(50, seed, heldout=True),
            make_prompts(50, seed, heldout=True, wordings="heldout"),
            make_corpus(50, seed),
            written,
            rate(written, seed, raters=5, noise=0.1),
        ]

    first, again, other = tables(1), tables(1), tables(2)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_rating_with_another_seed_gives_other_thumbs(corpus: list[Row]) -> None:
    one, two = (rate(corpus, seed, raters=10, noise=0.1) for seed in (1, 2))
    assert [t["label"] for t in one] != [t["label"] for t in two]
    assert [t["completion"] for t in one] == [t["completion"] for t in two]


# --- Raters ---


def share_of_thumbs_up(rater: Rater, quality: float, count: int) -> float:
    rng = Random(3)
    return sum(rater.votes_up(quality, rng) for _ in range(count)) / count


def test_an_even_handed_rater_without_noise_likes_what_is_good_and_nothing_else() -> None:
    rater = Rater("even-handed", leniency=0.0, noise=0.0)
    assert share_of_thumbs_up(rater, 1.0, 2000) > 0.99
    assert share_of_thumbs_up(rater, 0.0, 2000) < 0.01


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_noise_turns_its_share_of_the_thumbs(quality: float) -> None:
    # 20000 draws at 5 %: the standard deviation is 0.0015, so a right rater is outside the bounds with p < 1e-9.
    rater = Rater("noisy", leniency=0.0, noise=0.05)
    assert abs(share_of_thumbs_up(rater, quality, 20000) - abs(quality - 0.05)) < 0.01


def test_lenient_raters_like_more() -> None:
    shares = [share_of_thumbs_up(Rater("r", leniency, 0.0), LIKED_FROM, 4000) for leniency in (-1.0, 0.0, 1.0)]
    assert shares[0] < 0.4 < shares[1] < 0.6 < shares[2]


def test_raters_are_told_apart_and_differ() -> None:
    people = gather_raters(20, 0.05, Random(4))
    assert len({rater.name for rater in people}) == len({rater.leniency for rater in people}) == 20
    assert {rater.noise for rater in people} == {0.05}


def test_each_statement_gets_one_thumb_from_one_rater_at_its_time(corpus: list[Row]) -> None:
    thumbs = rate(corpus, 5, raters=12, noise=0.05)
    assert len(thumbs) == len(corpus)
    assert {rater.name for rater in gather_raters(12, 0.05, Random(0))} == {thumb["rater"] for thumb in thumbs}
    for row, thumb in zip(corpus, thumbs, strict=True):
        assert tuple(thumb) == ("prompt", "completion", "label", "rater", "created_at")
        assert (thumb["prompt"], thumb["completion"]) == (row["prompt"], row["completion"])
        assert isinstance(thumb["label"], bool)
        assert thumb["created_at"].tzinfo is not None
    times = [thumb["created_at"] for thumb in thumbs]
    assert times == sorted(set(times))


def test_thumbs_mostly_agree_with_the_truth(corpus: list[Row]) -> None:
    # Noise turns 5 %; leniency and chance turn about one in a hundred more.
    thumbs = rate(corpus, 6, raters=20, noise=0.05)
    agree = sum(a["label"] == b["label"] for a, b in zip(thumbs, rate_fairly(corpus), strict=True)) / len(corpus)
    assert 0.88 < agree < 0.98


def test_an_answer_that_did_not_end_is_worth_less(corpus: list[Row]) -> None:
    good = next(row for row in corpus if row["kind"] == "good")
    assert quality(good | {"ended": False}) < quality(good) == pytest.approx(1.0)


def test_a_prompt_tells_its_incident_again(train: list[Row], heldout: list[Row], reworded: list[Row]) -> None:
    for row in [*train, *heldout, *reworded, *proof_of_concept_prompts()]:
        assert read_prompt(row["prompt"]) == incident_of(row)


@pytest.mark.parametrize(
    "prompt",
    ["", "What happened?", "Provide a Root Cause Analysis for the recent picnic.", "- a line\n- of evidence"],
)
def test_what_is_no_prompt_of_this_world_is_an_error(prompt: str) -> None:
    with pytest.raises(ValueError, match="expected a prompt for a Root Cause Analysis"):
        read_prompt(prompt)
