"""What cannot be kept is refused by the name of its field, and what is kept comes back equal."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_ray.config import BadInput, check
from rlhf_ray.feedback.archive import as_completion, as_row
from rlhf_ray.feedback.entries import Completion, Vote, from_json, to_json

from .conftest import NOON, completion, vote

GOOD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30), timezones=st.timezones())


@given(GOOD, GOOD, st.lists(FINITE, max_size=3), TIMES)
def test_an_entry_survives_json_and_parquet_rows(prompt: str, said: str, logprobs: list[float], time: datetime) -> None:
    one = completion(prompt=prompt, completion=said, logprobs=logprobs, token_ids=[1] * len(logprobs), time=time)
    assert from_json(to_json(one), "here") == one
    assert as_completion(as_row(one)) == one


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", True),
        ("label", 0),
        ("label", 1.0),
        ("label", "1"),
        pytest.param("label", 10**5000, id="label of 5,001 digits"),
        ("vote_id", ""),
        ("vote_id", "a\nb"),
        ("vote_id", "x" * 129),
        ("person", "\ud800"),
        ("person", "a\0b"),
        ("person", 7),
        ("completion_id", None),
        ("comment", "x" * 4001),
        ("comment", "half \udfff"),
        ("comment", "NUL \0"),
        ("time", NOON.replace(tzinfo=None)),
        ("time", NOON.replace(year=1969)),
        ("time", "2026-11-25"),
        ("unknown", 1),
    ],
)
def test_a_bad_field_of_a_vote_is_named_in_few_words(field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=field) as refused:
        check(Vote, vote(1).model_dump() | {field: value}, "vote")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "\ud800"),
        ("completion", "x" * 200_001),
        ("token_ids", [-1]),
        ("token_ids", [2**31]),
        ("token_ids", [True]),
        ("logprobs", [0.0]),
        ("logprobs", [float("nan")] * 3),
        ("logprobs", [float("-inf")] * 3),
        ("sampling", {"stop": "\ud800"}),
        ("sampling", {"a\0": 1}),
        ("sampling", {str(number): 1 for number in range(33)}),
        ("sampling", {"temperature": float("inf")}),
        ("seed", 2**63),
        ("score", float("nan")),
        ("arm", "x" * 65),
    ],
)
def test_a_bad_field_of_a_completion_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=field):
        check(Completion, completion().model_dump() | {field: value}, "completion")
