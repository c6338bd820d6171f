"""Every probe has a right and a wrong side, and who only counts words cannot tell which is which."""

import re
from collections import Counter, defaultdict

import pytest

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation.bag_of_words import BagOfWords
from rlhf_ray.incidents.catalogue import load_catalogue
from rlhf_ray.incidents.incident import is_heldout, read_prompt
from rlhf_ray.incidents.probes import PROBES, make_probes
from rlhf_ray.incidents.raters import deserves_thumb_up
from rlhf_ray.incidents.rubric import judge, rubric
from rlhf_ray.incidents.world import holds_heldout_wording, make_prompts, rate, write_statements

CATALOGUE = load_catalogue()


@pytest.fixture(scope="module")
def probes() -> dict[str, list[Row]]:
    return by_probe(make_probes(48, 3, heldout=True))


def by_probe(rows: list[Row]) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row["probe"]].append(row)
    return dict(found)


def bag(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def test_every_probe_has_its_pairs(probes: dict[str, list[Row]]) -> None:
    assert list(probes) == list(PROBES)
    for rows in probes.values():
        assert len(rows) == 48
        assert all(tuple(row) == ("probe", "prompt", "chosen", "rejected") for row in rows)


@pytest.mark.parametrize("heldout", [True, False])
def test_what_is_chosen_deserves_a_thumb_up_and_what_is_rejected_never_does(heldout: bool) -> None:
    rows = make_probes(100, 4, heldout=heldout)
    prompts = [row["prompt"] for row in rows]
    for side in ("chosen", "rejected"):
        scores = rubric(prompts, [row[side] for row in rows])
        wrong = [row for row, score in zip(rows, scores, strict=True) if deserves_thumb_up(score) != (side == "chosen")]
        assert wrong == []


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("with_prompt", [False, True])
def test_who_only_counts_words_passes_no_probe(seed: int, with_prompt: bool) -> None:
    """A bag of words from as many thumbs as the demo has; it knows far more than nothing of held-out thumbs."""
    prompts = make_prompts(2000, seed, heldout=False)
    thumbs = rate(write_statements((prompts * 3)[:5000], seed), seed, raters=20, noise=0.05)
    counting = BagOfWords(thumbs, with_prompt=with_prompt)
    for name, rows in by_probe(make_probes(100, seed, heldout=True)).items():
        assert counting.accuracy_on_pairs(rows) < 0.8, name
    assert counting.accuracy(thumbs) > 0.7


def test_the_sides_of_a_minimal_pair_have_the_same_words(probes: dict[str, list[Row]]) -> None:
    for row in probes["keyword_stuffing"]:
        assert bag(row["chosen"]) == bag(row["rejected"])
    exchanged = [row for row in probes["negation"] if bag(row["chosen"]) == bag(row["rejected"])]
    assert len(exchanged) > 0.4 * len(probes["negation"])
    for row in probes["negation"]:
        assert bag(row["rejected"])["not"] == bag(row["chosen"])["not"] >= 1


def test_a_hedged_twin_has_one_word_more_which_no_thumb_has(probes: dict[str, list[Row]]) -> None:
    for row in probes["hedged"]:
        assert bag(row["rejected"]) - bag(row["chosen"]) == Counter([CATALOGUE.doubts.heldout])


def test_a_wrong_component_is_the_only_thing_that_is_wrong(probes: dict[str, list[Row]]) -> None:
    for row in probes["wrong_component"]:
        added = set(bag(row["rejected"]) - bag(row["chosen"]))
        assert len(added) == 1
        assert added < set(CATALOGUE.services)


def test_what_is_wrong_stands_in_the_frames_of_what_is_right(probes: dict[str, list[Row]]) -> None:
    for name in ("wrong_cause", "wrong_component", "prompt_swapped"):
        for row in probes[name]:
            assert row["chosen"].count(". ") == row["rejected"].count(". ")
            assert row["chosen"].split()[:1] == row["rejected"].split()[:1]


def test_a_wrong_fix_is_all_that_is_wrong_of_a_wrong_fix(probes: dict[str, list[Row]]) -> None:
    for row in probes["wrong_fix"]:
        verdict = judge(read_prompt(row["prompt"]), row["rejected"])
        assert verdict.right_cause
        assert verdict.mechanism
        assert not verdict.fitting_fix


def test_a_truncated_twin_begins_like_the_whole_and_is_longer_or_shorter(probes: dict[str, list[Row]]) -> None:
    longer = 0
    for row in probes["truncation"]:
        assert row["rejected"].startswith(row["chosen"]) or row["chosen"].startswith(row["rejected"])
        assert not row["rejected"].endswith(".")
        longer += len(row["rejected"]) > len(row["chosen"])
    assert 0.4 < longer / len(probes["truncation"]) < 0.9


def test_a_repeating_twin_says_one_sentence_twice_and_need_not_be_longer(probes: dict[str, list[Row]]) -> None:
    twice = [Counter(re.split(r"(?<=\.) ", row["rejected"])).most_common(1)[0][1] for row in probes["repetition"]]
    assert set(twice) == {2}
    assert 0.2 < sum(len(r["rejected"]) <= 1.1 * len(r["chosen"]) for r in probes["repetition"]) / len(twice) < 0.8


def test_heldout_wordings_stand_in_prompt_and_both_sides_of_one_probe_only(probes: dict[str, list[Row]]) -> None:
    for name, rows in probes.items():
        sides = ("prompt", "chosen", "rejected") if name == "heldout_wordings" else ()
        for row in rows:
            assert all(holds_heldout_wording(row[side]) for side in sides)
            assert sides or not holds_heldout_wording(row["prompt"] + row["chosen"])


def test_probes_for_a_search_say_nothing_that_is_held_out() -> None:
    rows = make_probes(24, 5, heldout=False)
    assert set(by_probe(rows)) == set(PROBES) - {"heldout_wordings"}
    for row in rows:
        assert not is_heldout(read_prompt(row["prompt"]))
        assert not holds_heldout_wording(row["prompt"] + row["chosen"] + row["rejected"])


def test_probes_of_a_model_are_about_heldout_incidents_and_every_cause(probes: dict[str, list[Row]]) -> None:
    for rows in probes.values():
        asked = [read_prompt(row["prompt"]) for row in rows]
        assert all(map(is_heldout, asked))
        assert set(Counter(incident.cause for incident in asked).values()) == {2}


def test_the_same_seed_gives_the_same_probes_and_another_gives_others() -> None:
    assert make_probes(5, 1, heldout=True) == make_probes(5, 1, heldout=True) != make_probes(5, 2, heldout=True)
