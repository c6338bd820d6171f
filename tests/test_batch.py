"""A batch is cut and joined as one thing."""

import pickle
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from rlhf_ray.batch import Batch, Lent, concat, gather
from rlhf_ray.experience import CriticEstimates, PromptBatch, Rollout, ScoredRollout

SIZES = st.integers(1, 9)


def some_scored(size: int, prompt: int = 3, response: int = 4) -> ScoredRollout:
    """A batch in a batch in a batch, every number another one."""
    each = torch.arange(size)
    asked = PromptBatch(torch.arange(size * prompt).view(size, prompt), torch.rand(size, prompt) > 0.5, each, each // 2)
    said = torch.arange(size * response).view(size, response)
    rollout = Rollout(
        asked, said, said % 3 > 0, torch.randn(size, response), torch.arange(size) % 2 > 0, torch.arange(size)
    )
    return ScoredRollout(
        rollout, torch.randn(size), torch.randn(size, 2), torch.rand(size) > 0.5, torch.randn(size, response)
    )


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return type(one) is type(other) and all(
        same(a, b) if isinstance(a, Batch) else a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs
    )


@given(SIZES, st.integers(1, 12))
def test_what_was_split_is_whole_again_when_joined(size: int, piece: int) -> None:
    batch = some_scored(size)
    assert same(concat(batch.split(piece)), batch)


@given(SIZES, st.integers(1, 12))
def test_all_pieces_but_the_last_have_the_size_asked_for(size: int, piece: int) -> None:
    *full, last = map(len, some_scored(size).split(piece))
    assert all(length == piece for length in full)
    assert 0 < last <= piece
    assert sum(full) + last == size


@given(SIZES, st.data())
def test_rows_are_chosen_at_every_depth(size: int, data: st.DataObject) -> None:
    batch = some_scored(size)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    chosen = batch[rows]
    assert len(chosen) == len(chosen.rollout) == len(chosen.rollout.prompt) == len(rows)
    assert torch.equal(chosen.score, batch.score[rows])
    assert torch.equal(chosen.rollout.prompt.tokens, batch.rollout.prompt.tokens[rows])


def test_a_slice_is_the_rows_from_here_to_there() -> None:
    batch = some_scored(5)
    assert same(batch[1:3], batch[torch.tensor([1, 2])])
    assert batch[1:3].rollout.prompt.sample.tolist() == [1, 2]


def test_a_batch_moves_to_a_device_with_all_its_parts() -> None:
    moved = some_scored(2).to("meta")
    assert moved.score.device.type == moved.rollout.prompt.mask.device.type == "meta"


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="at least one"):
        concat([])


def test_a_batch_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        some_scored(1).score = torch.zeros(1)  # type: ignore[misc]


def test_shapes_that_disagree_are_refused_here_where_they_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        CriticEstimates(torch.zeros(2, 3), torch.zeros(2, 4))


@given(SIZES)
def test_a_batch_that_has_travelled_is_the_same(size: int) -> None:
    batch = some_scored(size)
    assert same(pickle.loads(pickle.dumps(batch)), batch)  # noqa: S301


def test_what_has_travelled_can_be_written_to() -> None:
    arrived = pickle.loads(pickle.dumps(some_scored(2)))  # noqa: S301
    arrived.score.zero_()
    assert not arrived.score.any()


def test_rows_travel_without_the_batch_that_they_were_cut_from() -> None:
    whole = some_scored(1000)
    assert len(pickle.dumps(whole[:10])) < len(pickle.dumps(whole)) / 20


@given(SIZES, st.integers(1, 12), st.data())
def test_who_is_lent_a_batch_takes_the_rows_that_he_wants(size: int, piece: int, data: st.DataObject) -> None:
    batch = some_scored(size)
    lent = [pickle.loads(pickle.dumps(Lent.of(part))) for part in batch.split(piece)]  # noqa: S301
    assert same(gather(lent), batch)
    start = data.draw(st.integers(0, len(lent[0].rows(range(piece))) - 1))
    assert same(lent[0].rows(range(start, piece)), batch[start:piece])


def test_what_was_lent_and_taken_can_be_written_to_and_leaves_the_lender_as_it_was() -> None:
    batch = some_scored(3)
    lent = Lent.of(batch)
    for taken in (gather([lent]), lent.rows(range(3))):
        taken.score.fill_(7.0)
        taken.rollout.tokens.zero_()
    assert not (batch.score == 7.0).any() and batch.rollout.tokens.any()
