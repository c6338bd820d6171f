"""The judge says what a careful reader would say, and cannot be talked into more."""

import re
from collections.abc import Callable
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_ray.incidents.catalogue import load_catalogue
from rlhf_ray.incidents.incident import Incident, incidents
from rlhf_ray.incidents.rubric import CRITERIA, judge, rubric
from rlhf_ray.incidents.statements import KINDS, write
from rlhf_ray.incidents.world import incident_of, make_corpus

CASES = yaml.safe_load(Path(__file__).with_name("statements.yaml").read_text(encoding="utf-8"))
INCIDENTS = incidents(heldout=False) + incidents(heldout=True)
BARE = [Incident(symptom) for symptom in load_catalogue().symptoms]
FLAWED = [kind for kind in KINDS if kind not in ("good", "brief")]
BRIEF = 0.85  # what the raters' threshold counts on: a brief analysis lacks the mechanism and nothing else
DOUBTED = 0.8 + 1e-9  # a whole analysis that is not conclusive
FLAWED_AT_MOST = 0.6 + 1e-9


def some_incidents(count: int, seed: int) -> list[Incident]:
    """Incidents of both sides of the split, those without evidence and without a service among them."""
    rng = Random(seed)
    return [rng.choice(INCIDENTS if rng.random() < 0.9 else BARE) for _ in range(count)]


def some_statements(kind: str, count: int, seed: int) -> list[tuple[Incident, str]]:
    """Of the incidents that a statement of the kind can be about: where no component is named, none is wrong."""
    rng = Random(seed)
    about = [i for i in some_incidents(count, seed) if i.service or kind != "wrong_component"]
    return [(incident, write(kind, incident, rng, "any")) for incident in about]


def name_of(case: dict[str, Any]) -> str:
    words = re.findall(r"[a-z]+", case["statement"].lower())
    return "-".join([case["incident"]["cause"] or "bare", *words[:6]])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_criterion_is_as_a_careful_reader_says(case: dict[str, Any]) -> None:
    verdict = judge(Incident(**case["incident"]), case["statement"], finished=case.get("finished", True))
    expected = {name: name not in case["fails"] for name in CRITERIA}
    assert asdict(verdict) == expected | {"contradicted": case.get("contradicted", False)}


def test_the_cases_speak_of_the_catalogue_and_of_criteria_that_exist() -> None:
    catalogue = load_catalogue()
    assert len(CASES) >= 60
    for case in CASES:
        incident = Incident(**case["incident"])
        assert incident.service == "" or incident.service in catalogue.services
        assert all(cause in catalogue.explaining(incident.symptom) for cause in incident.right_causes)
        assert set(case["fails"]) <= set(CRITERIA)
        assert set(case) <= {"incident", "statement", "finished", "fails", "contradicted"}


def test_every_criterion_fails_in_some_case_and_passes_in_another() -> None:
    for name in CRITERIA:
        assert {name in case["fails"] for case in CASES} == {True, False}


def test_scores_lie_between_zero_and_one() -> None:
    for seed, kind in enumerate(KINDS):
        for incident, statement in some_statements(kind, 100, seed):
            for finished in (True, False):
                assert 0.0 <= judge(incident, statement, finished=finished).score <= 1.0


def test_good_statements_score_one() -> None:
    for incident, statement in some_statements("good", 300, seed=1):
        assert judge(incident, statement).score == pytest.approx(1.0), (incident, statement)


def test_every_wording_of_every_cause_is_read() -> None:
    catalogue = load_catalogue()
    for symptom in catalogue.symptoms:
        for cause in catalogue.explaining(symptom):
            for name, why, fix in zip(cause.wordings.all, cause.mechanisms.all, cause.fixes.all, strict=True):
                incident = Incident(symptom, "checkout", cause.name)
                statement = f"The root cause was {name.format(service='checkout')}. Here {why}. We {fix}."
                assert judge(incident, statement).score == pytest.approx(1.0), statement


def test_no_prevention_spoils_an_analysis() -> None:
    # Preventions speak of limits, reviews and warnings: none of it may read as a hedge, as blame or as another's fix.
    for symptom in load_catalogue().symptoms:
        for cause in load_catalogue().explaining(symptom):
            analysis = f"Root cause: {cause.wordings.all[0]}. Here {cause.mechanisms.all[0]}. We {cause.fixes.all[0]}."
            for prevention in cause.preventions.all:
                incident = Incident(symptom, "order", cause.name)
                statement = f"{analysis} {prevention}".format(service="order")
                assert judge(incident, statement).score == pytest.approx(1.0), statement


def test_good_beats_brief_beats_every_flaw() -> None:
    for incident, statement in some_statements("brief", 200, seed=2):
        assert judge(incident, statement).score == pytest.approx(BRIEF), statement
    for seed, kind in enumerate(FLAWED, start=3):
        best = max(judge(incident, statement).score for incident, statement in some_statements(kind, 200, seed))
        assert best <= (DOUBTED if kind == "hedged" else FLAWED_AT_MOST), kind


def test_stuffing_a_right_analysis_lowers_its_score() -> None:
    rng = Random(4)
    for incident, statement in some_statements("good", 200, seed=4):
        keywords = write("stuffed", incident, rng)
        for stuffed in (f"{keywords} {statement}", f"{statement} {keywords}"):
            assert judge(incident, stuffed).score < judge(incident, statement).score, stuffed


def test_keywords_add_nothing_to_a_vague_statement() -> None:
    rng = Random(5)
    for incident, statement in some_statements("vague", 100, seed=5):
        assert judge(incident, f"{statement} {write('stuffed', incident, rng)}").score == 0.0


def test_a_statement_cut_off_by_the_generator_never_scores_one() -> None:
    for incident, statement in some_statements("good", 60, seed=6):
        words = statement.split()
        for end in range(len(words) + 1):
            assert judge(incident, " ".join(words[:end]), finished=False).score <= FLAWED_AT_MOST


def test_a_sentence_cut_off_never_scores_one() -> None:
    # Where a whole sentence is left out, such as the prevention, the rest may well be a whole analysis.
    for incident, statement in some_statements("good", 60, seed=7):
        words = statement.split()
        for end in range(len(words)):
            if not words[:end] or not words[end - 1].endswith("."):
                assert judge(incident, " ".join(words[:end])).score <= FLAWED_AT_MOST, words[:end]


def test_no_sentence_of_a_brief_analysis_can_be_left_out() -> None:
    for incident, statement in some_statements("brief", 100, seed=8):
        assert all(judge(incident, half).score <= FLAWED_AT_MOST for half in re.split(r"(?<=\.) ", statement)), (
            statement
        )


@pytest.mark.parametrize(
    "respelled",
    [
        str.upper,
        str.lower,
        str.title,
        lambda s: f"  {s}\n",
        lambda s: s.replace(" ", "   "),
        lambda s: s.replace(" ", "\t"),
        lambda s: re.sub(r"([.,:;])", r" \1", s),
        lambda s: s.replace(",", ""),
        lambda s: s.replace(".", "!"),
        lambda s: s.replace("-", " - "),
    ],
    ids=["upper", "lower", "title", "margins", "wide", "tabs", "loose", "no-commas", "exclaimed", "hyphens"],
)
def test_case_spaces_and_punctuation_do_not_matter(respelled: Callable[[str], str]) -> None:
    for seed, kind in enumerate(KINDS, start=20):
        for incident, statement in some_statements(kind, 20, seed):
            assert judge(incident, respelled(statement)) == judge(incident, statement), respelled(statement)


def test_a_line_break_within_a_sentence_does_not_matter() -> None:
    rng = Random(9)
    for seed, kind in enumerate(KINDS, start=40):
        for incident, statement in some_statements(kind, 20, seed):
            words = statement.split()
            place = rng.randrange(1, len(words))
            wrapped = " ".join(words[:place]) + "\n" + " ".join(words[place:])
            assert judge(incident, wrapped) == judge(incident, statement), wrapped


def test_the_order_of_the_sentences_does_not_matter() -> None:
    for incident, statement in some_statements("good", 40, seed=10):
        for sentences in permutations(re.split(r"(?<=\.) ", statement)):
            assert judge(incident, " ".join(sentences)) == judge(incident, statement), sentences


def test_only_the_true_cause_or_one_that_explains_is_right() -> None:
    catalogue = load_catalogue()
    for incident in some_incidents(40, seed=11):
        right = {cause.name for cause in incident.right_causes}
        for cause in catalogue.causes.values():
            named = cause.wordings.all[0].format(service=incident.spoken_service)
            assert judge(incident, f"The root cause was {named}.").right_cause == (cause.name in right)


def test_naming_every_cause_names_none() -> None:
    for incident in some_incidents(40, seed=12):
        service = incident.spoken_service
        every = ", ".join(cause.wordings.all[0].format(service=service) for cause in load_catalogue().causes.values())
        verdict = judge(incident, f"The root cause was {every}.")
        assert not verdict.right_cause
        assert verdict.contradicted


def pieces() -> st.SearchStrategy[str]:
    """Any text at all, and text that holds pieces of what the judge looks for."""
    causes = load_catalogue().causes.values()
    known = [phrase for cause in causes for phrases in cause.statement_phrases for phrase in phrases.all]
    known += ["root cause", "not", "may", ".", "\n"]
    piece = st.one_of(st.text(max_size=20), st.sampled_from(known))
    return st.one_of(st.text(), st.lists(piece, max_size=12).map(" ".join))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(incident=st.sampled_from(some_incidents(100, seed=13)), statement=pieces(), finished=st.booleans())
def test_any_text_can_be_judged(incident: Incident, statement: str, finished: bool) -> None:
    assert 0.0 <= judge(incident, statement, finished=finished).score <= 1.0


def test_as_a_reward_it_says_what_it_says_as_a_judge() -> None:
    rows = make_corpus(200, seed=14)
    scores = rubric([row["prompt"] for row in rows], [row["completion"] for row in rows])
    assert scores == [judge(incident_of(row), row["completion"]).score for row in rows]
    assert min(scores) < 0.3 < 0.9 < max(scores)
