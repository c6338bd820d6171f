"""The first thumbs: who is asked what, and what never gets into them."""

import pytest

from rlhf_ray.feedback.collection import Collection, collect, cycle_rows
from rlhf_ray.incidents import world
from rlhf_ray.incidents.catalogue import load_catalogue

HELDOUT_WORDING = load_catalogue().causes["connection-leak"].mechanisms.heldout
PROMPTS = world.make_prompts(40, 0, heldout=False)


def speak(rows):
    """A model that says something useless, and to every fourth prompt a held-out wording."""
    said = ("It works again now.", "It works again now.", "It works again now.", f"{HELDOUT_WORDING}.")
    return [row | {"completion": said[i % 4], "ended": True, "tokens": 5} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def thumbs():
    return collect(speak, PROMPTS, Collection(samples=60, statements=50, heldout=30), seed=1)


def test_samples_and_statements_are_rated(thumbs):
    assert len(thumbs.samples) == 60
    assert len(thumbs.given) == 45 + 50  # every fourth sample says a held-out wording
    assert {row["label"] for row in thumbs.given} == {True, False}


def test_no_thumb_contains_a_heldout_wording(thumbs):
    assert not any(world.holds_heldout_wording(row["prompt"] + row["completion"]) for row in thumbs.given)


def test_heldout_thumbs_are_about_other_prompts_and_have_a_kind(thumbs):
    assert not {row["prompt"] for row in thumbs.heldout} & {row["prompt"] for row in thumbs.given}
    assert len(thumbs.heldout) == 60
    assert all(row["kind"] for row in thumbs.heldout)


def test_the_same_seed_gives_the_same_thumbs():
    again = [collect(speak, PROMPTS, Collection(samples=20, statements=20, heldout=5), seed=2) for _ in range(2)]
    assert again[0] == again[1]


def test_a_good_statement_on_heldout_prompts_is_liked_and_a_vague_one_is_not(thumbs):
    labels = {kind: {row["label"] for row in thumbs.heldout if row["kind"] == kind} for kind in ("good", "vague")}
    assert labels["good"] == {True}
    assert labels["vague"] == {False}


def test_rows_cycle():
    assert cycle_rows([{"a": 1}, {"a": 2}], 3) == [{"a": 1}, {"a": 2}, {"a": 1}]
