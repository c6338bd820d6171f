"""What the data report says of data whose faults are known."""

import json

import pytest

from rlhf_ray.feedback.agreement import agreement
from rlhf_ray.feedback.report import data_report, in_a_few_lines, write_data_report


def thumb(prompt, completion, label, rater=None):
    return {"prompt": prompt, "completion": completion, "label": label, "rater": rater, "created_at": None}


def pair(prompt, chosen, rejected, rater=None, margin=0.0):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": margin, "rater": rater}


HARMLESS = [thumb(f"prompt {i % 200}", f"answer {i:03d}", i % 2 == 0, f"rater {i % 5}") for i in range(400)]
HELDOUT = [thumb(f"other {i}", f"answer {i:03d}", i % 2 == 0) for i in range(60)]


@pytest.fixture
def report(plain_tokenizer):
    def report(thumbs=(), pairs=(), heldout=(), heldout_pairs=(), rejected=(), **more):
        tables = map(list, (thumbs, pairs, heldout, heldout_pairs, rejected))
        return data_report(*tables, plain_tokenizer, **more)

    return report


def warned(report, *words):
    return [warning for warning in report["warnings"] if all(word in warning for word in words)]


def test_nothing_is_said_against_data_without_a_fault(report):
    facts = report(HARMLESS, heldout=HELDOUT)
    assert facts["warnings"] == []
    assert facts["thumbs"]["train"] == {"rows": 400, "prompts": 200, "up_share": 0.5}
    assert facts["thumbs"]["heldout"] == {"rows": 60, "prompts": 60, "up_share": 0.5}


def test_raters_are_counted(report):
    facts = report([thumb("p", "a", True, "Ann"), thumb("p", "b", False, "Ann"), thumb("p", "c", True, "Bob")])
    assert facts["raters"] == {
        "Ann": {"thumbs": 2, "pairs": 0, "up_share": 0.5},
        "Bob": {"thumbs": 1, "pairs": 0, "up_share": 1.0},
    }
    assert report([], [pair("p", "a", "b", "Ann")])["raters"] == {"Ann": {"thumbs": 0, "pairs": 1, "up_share": None}}


def test_a_completion_with_both_labels_is_a_conflict(report):
    facts = report([thumb("p", "a", True, "Ann"), thumb("p", "a", False, "Bob"), thumb("p", "b", False)])
    assert facts["conflicts"] == {"items": 1, "rows": 2, "of_items": 2}
    assert warned(facts, "thumbs up and down")


def test_lengths_are_told_by_label_and_a_length_that_gives_the_label_away_is_warned_of(report):
    long = [thumb(f"p{i}", "word " * (10 + i % 3), True) for i in range(40)]
    short = [thumb(f"q{i}", "word " * (1 + i % 3), False) for i in range(40)]
    facts = report(long + short, [pair("p", "a longer answer", "short")] * 3)
    assert facts["lengths"]["by_label"]["up"]["words"] == {"mean": pytest.approx(10.975), "median": 11.0}
    assert facts["lengths"]["auc_of_length"] == facts["lengths"]["longer_is_chosen"] == 1.0
    assert warned(facts, "longer", "liked") and warned(facts, "longer", "chosen")
    assert warned(report([row | {"label": not row["label"]} for row in long + short]), "shorter", "liked")


def test_leaks_are_found_to_the_letter_and_nearly(report):
    facts = report(HARMLESS, heldout=[*HELDOUT, thumb("prompt 1", "x", True), thumb(" PROMPT\n2", "x", True)])
    assert facts["leakage"] == {"prompts": 1, "near_copies": 1}
    assert warned(facts, "2 held-out prompts stand")


@pytest.mark.parametrize(("label", "word"), [(True, "up"), (False, "down")])
def test_one_sided_labels_are_warned_of(report, label, word):
    facts = report([row | {"label": label} for row in HARMLESS], heldout=HELDOUT)
    assert warned(facts, f"all thumbs to learn from are {word}")
    assert report([row | {"label": label} for row in HARMLESS])["lengths"]["auc_of_length"] is None
    mostly = [row | {"label": label if i % 20 else not label} for i, row in enumerate(HARMLESS)]
    assert warned(report(mostly, heldout=HELDOUT), "% of the thumbs to learn from are up")


def test_few_rows_prompts_that_ppo_leaves_out_and_many_rejected_rows_are_warned_of(report):
    rejected = [{"source": "a.csv", "row": i, "reason": f"duplicate of row {i}", "content": ""} for i in range(3)]
    facts = report(HARMLESS[:10], heldout=HELDOUT[:2], rejected=rejected, unasked=4)
    assert warned(facts, "10 thumbs and pairs to learn from are few")
    assert warned(facts, "4 prompts are longer than sampling.prompt_tokens")
    assert warned(facts, "3 rows were rejected, most often for: duplicate")
    assert facts["rejected"] == {"rows": 3, "by_reason": {"duplicate": 3}}
    assert facts["duplicates"] == {"kept": 0, "rejected": 3}


def test_raters_who_disagree_or_always_say_the_same_are_warned_of(report):
    at_odds = [
        thumb(f"p{i}", "a", (i % 2 == 0) == (rater == "Ann"), rater) for i in range(20) for rater in ("Ann", "Bob")
    ]
    assert warned(report(at_odds), "raters of the same thumbs agree 0% of the time (alpha -0.95)")
    stubborn = [thumb(f"p{i}", "a", True, "Ann") for i in range(20)] + HARMLESS
    assert warned(report(stubborn), "Ann gave one and the same thumb to everything")


def test_raters_of_pairs_agree_whichever_side_they_saw_first(report):
    rows = [
        pair("p", "a", "b", "Ann"),
        pair("p", "a", "b", "Bob"),
        pair("q", "a", "b", "Ann"),
        pair("q", "b", "a", "Bob"),
    ]
    assert report([], rows)["agreement"]["pairs"] == {"items": 2, "pairs": 0.5, "alpha": 0.0}


def test_alpha_is_that_of_a_worked_example():
    """Two coders, ten units, 0/1: agreement 0.6, alpha 0.095 (Krippendorff, Computing Krippendorff's Alpha, 2011)."""
    first, second = "0100000001", "1110010000"
    said = [(unit, coder, value == "1") for coder, values in (("A", first), ("B", second))
            for unit, value in enumerate(values)]  # fmt: skip
    found = agreement(said)
    assert found["pairs"] == pytest.approx(0.6)
    assert found["alpha"] == pytest.approx(0.095, abs=5e-4)


def test_agreement_is_undefined_where_nobody_judged_the_same_or_all_said_the_same():
    assert agreement([("a", "Ann", True), ("a", None, True)]) == {"items": 0, "pairs": None, "alpha": None}
    assert agreement([("a", "Ann", True), ("a", "Bob", True)]) == {"items": 1, "pairs": 1.0, "alpha": None}


@pytest.mark.parametrize("tables", [{}, {"thumbs": HARMLESS, "heldout": HELDOUT}, {"pairs": [pair("p", "a", "b")]}])
def test_the_report_can_be_written_whatever_is_missing(report, tables, tmp_path):
    facts = report(**tables)
    write_data_report(facts, tmp_path)
    assert json.loads((tmp_path / "data_report.json").read_text(encoding="utf-8")) == facts
    words = (tmp_path / "data_report.md").read_text(encoding="utf-8")
    assert not [word for word in ("None", "nan", "Undefined") if word in words.replace("None.\n", "")]
    for warning in facts["warnings"]:
        assert warning in words and warning in in_a_few_lines(facts)
