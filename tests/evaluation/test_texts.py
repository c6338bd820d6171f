"""Variety and repetition of a set of responses."""

from rlhf_ray.evaluation.texts import distinct_2, most_repeated_share, repetition


def test_all_different_pairs_are_fully_distinct():
    assert distinct_2(["one two three", "four five"]) == 1.0


def test_the_same_response_many_times_is_hardly_distinct():
    assert distinct_2(["root cause found"] * 10) == 0.1


def test_a_response_that_repeats_itself_is_repetitive():
    assert repetition(["a b a b a b"]) == 0.6
    assert repetition(["a b c d"]) == 0.0


def test_empty_responses_are_neither():
    assert distinct_2(["", "word"]) == 0.0
    assert repetition(["", "word"]) == 0.0


def test_one_answer_to_every_cause_is_wholly_repeated():
    assert most_repeated_share(["same"] * 4, ["a", "b", "c", "d"]) == 1.0


def test_the_same_answer_to_the_same_cause_counts_once():
    assert most_repeated_share(["x", "x", "x", "y"], ["a", "a", "a", "b"]) == 0.5
