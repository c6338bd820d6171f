"""Means and whitening see the tokens of the mask and nothing else."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.masked import masked_mean, whiten

NUMBERS = st.floats(-100, 100, width=32)
GARBAGE = st.sampled_from([0.0, 1e30, math.inf, math.nan])


@st.composite
def masked_values(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Values `B R` with a mask that holds at least one token, in any pattern."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    count = rows * columns
    values = torch.tensor(draw(st.lists(NUMBERS, min_size=count, max_size=count)))
    mask = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    assume(mask.any())
    return values.view(rows, columns), mask.view(rows, columns)


def spread(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].std(correction=0))


@given(masked_values())
def test_the_mean_is_that_of_the_tokens_that_count(case: tuple[Tensor, Tensor]) -> None:
    values, mask = case
    assert masked_mean(values, mask).item() == pytest.approx(values[mask].double().mean().item(), abs=1e-3)


@given(masked_values(), GARBAGE)
def test_what_stands_outside_the_mask_does_not_matter(case: tuple[Tensor, Tensor], garbage: float) -> None:
    values, mask = case
    dirty = torch.where(mask, values, garbage)
    clean = torch.where(mask, values, 0.0)
    assert torch.equal(masked_mean(dirty, mask), masked_mean(clean, mask))
    assert torch.equal(whiten(dirty, mask), whiten(clean, mask))


@given(masked_values(), st.integers(1, 5), GARBAGE)
def test_padding_changes_nothing(case: tuple[Tensor, Tensor], columns: int, garbage: float) -> None:
    values, mask = case
    assume(spread(values, mask) > 0.1)
    wide = torch.cat([values, torch.full((len(values), columns), garbage)], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(len(mask), columns, dtype=torch.bool)], dim=1)
    whitened = whiten(wide, wide_mask)
    torch.testing.assert_close(whitened[:, :-columns], whiten(values, mask), atol=1e-4, rtol=1e-4)
    assert (whitened[:, -columns:] == 0).all()


@given(masked_values())
def test_whitening_gives_mean_0_and_variance_1(case: tuple[Tensor, Tensor]) -> None:
    values, mask = case
    assume(spread(values, mask) > 0.1)
    whitened = whiten(values, mask)[mask].double()
    assert whitened.mean().item() == pytest.approx(0, abs=1e-3)
    assert whitened.var(correction=0).item() == pytest.approx(1, abs=1e-3)


@given(masked_values(), st.floats(0.125, 10, width=32), NUMBERS)
def test_whitening_forgets_scale_and_offset(case: tuple[Tensor, Tensor], scale: float, offset: float) -> None:
    values, mask = case
    assume(spread(values, mask) > 1)
    torch.testing.assert_close(whiten(values * scale + offset, mask), whiten(values, mask), atol=1e-3, rtol=1e-3)


@given(masked_values())
def test_the_mean_is_kept_where_that_is_asked_for(case: tuple[Tensor, Tensor]) -> None:
    values, mask = case
    assume(spread(values, mask) > 0.1)
    whitened = whiten(values, mask, keep_mean=True)
    assert masked_mean(whitened, mask).item() == pytest.approx(masked_mean(values, mask).item(), abs=1e-3)
    assert spread(whitened, mask) == pytest.approx(1, abs=1e-3)


@given(st.integers(1, 300), NUMBERS)
@example(count=6, value=16.105815887451172)
def test_equal_values_whiten_to_zero(count: int, value: float) -> None:
    values, mask = torch.full((1, count), value), torch.ones(1, count, dtype=torch.bool)
    torch.testing.assert_close(whiten(values, mask), torch.zeros(1, count), atol=1e-3, rtol=0)


@given(masked_values())
def test_the_order_of_the_rows_does_not_matter(case: tuple[Tensor, Tensor]) -> None:
    values, mask = case
    assume(spread(values, mask) > 0.1)
    torch.testing.assert_close(whiten(values.flip(0), mask.flip(0)), whiten(values, mask).flip(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("function", [masked_mean, whiten])
def test_an_empty_mask_has_no_mean(function: Callable) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        function(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))
