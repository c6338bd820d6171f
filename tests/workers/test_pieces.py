"""A minibatch is cut by tokens: nothing is lost, nothing is too large that could be smaller, and ranks keep step."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_ray.workers.pieces import cut
from rlhf_ray.workers.ranks import Ranks

LENGTHS = st.lists(st.integers(1, 30), min_size=4, max_size=20)


@given(LENGTHS, st.integers(1, 80))
def test_pieces_in_a_row_are_the_whole_and_fit(lengths: list[int], most: int) -> None:
    (pieces,) = cut([torch.arange(len(lengths))], torch.tensor(lengths), most)
    assert torch.cat(pieces).tolist() == list(range(len(lengths)))
    sizes = [sum(lengths[row] for row in piece) for piece in pieces]
    assert all(size <= most or len(piece) == 1 for size, piece in zip(sizes, pieces, strict=True))
    firsts = [lengths[piece[0]] for piece in pieces[1:]]
    assert all(size + first > most for size, first in zip(sizes, firsts, strict=False))


@given(LENGTHS, st.integers(1, 80), st.integers(2, 4))
def test_all_ranks_have_as_many_pieces(lengths: list[int], most: int, size: int) -> None:
    shares = [Ranks(rank, size).share(torch.arange(len(lengths))) for rank in range(size)]
    ranks = cut(shares, torch.tensor(lengths), most)
    assert len({len(pieces) for pieces in ranks}) == 1
    for share, pieces in zip(shares, ranks, strict=True):
        assert torch.equal(torch.cat(pieces), share)
        assert all(len(piece) for piece in pieces)


def test_without_a_limit_a_minibatch_is_one_piece() -> None:
    ((piece,),) = cut([torch.arange(5)], torch.full((5,), 10**6), None)
    assert len(piece) == 5
