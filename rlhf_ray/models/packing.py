"""Packing: sequences of different length one behind the other in a single row, so that no padding is computed.

All layers but attention treat each token by itself and see the row as it is. Attention takes the sequences out of the
row, those of similar length together, and puts what it found back. Any transformers model works whose attention goes
through its AttentionInterface, and that mixes tokens nowhere else; `check_reading` holds a model to that.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from rlhf_ray.config import BadInput

PACKED = "packed"  # the name under which transformers knows this attention
TOGETHER = 8  # sequences; fewer cost calls, more bring padding back
SAME = 1e-3  # of the largest number; two ways to compute the same in float32 are nearer than this


@dataclass(frozen=True)
class Packing:
    """Where the `N` tokens of a row are when their sequences are taken out of it, into `M` places.

    Sequences of similar length are padded on the right, with their own first token, to the longest of them: no token
    attends to what comes behind it. `source` is the token that is taken to each place, `back` the place of each token,
    `empty` are the places without one of their own, and `shapes` says how many sequences of what length lie together.
    """

    source: Int[Tensor, " M"]
    back: Int[Tensor, " N"]
    empty: Int[Tensor, " E"]
    shapes: list[tuple[int, int]]

    @classmethod
    def of(cls, lengths: Int[Tensor, " B"]) -> "Packing":
        """How sequences of these lengths, each at least 1, lie one behind the other in a row."""
        device, lengths = lengths.device, lengths.cpu()
        starts = lengths.cumsum(0) - lengths
        sources, reals, shapes = [], [], []
        for rows in lengths.argsort(stable=True).split(TOGETHER):
            columns = torch.arange(int(lengths[rows].max()))
            real = columns < lengths[rows, None]
            sources.append((starts[rows, None] + torch.where(real, columns, 0)).view(-1))
            reals.append(real.view(-1))
            shapes.append((real.shape[0], real.shape[1]))
        source, real = torch.cat(sources), torch.cat(reals)
        back = torch.empty(int(lengths.sum()), dtype=torch.long)
        back[source[real]] = real.nonzero()[:, 0]
        return cls(source.to(device), back.to(device), (~real).nonzero()[:, 0].to(device), shapes)

    def take(self, row: Float[Tensor, "N H D"]) -> Iterator[Float[Tensor, "b H t D"]]:
        """The sequences, those of similar length together."""
        taken = _Take.apply(row, self).split([sequences * length for sequences, length in self.shapes])
        for part, shape in zip(taken, self.shapes, strict=True):
            yield part.view(*shape, *row.shape[1:]).transpose(1, 2)

    def put_back(self, sequences: list[Float[Tensor, "b H t D"]]) -> Float[Tensor, "N H D"]:
        """The row whose sequences these are."""
        return _PutBack.apply(torch.cat([part.transpose(1, 2).flatten(0, 1) for part in sequences]), self)


class _Take(torch.autograd.Function):
    """What lies at an empty place is looked at by nobody and has no gradient, so the gradient too is only moved."""

    @staticmethod
    def forward(context: Any, row: Tensor, packing: Packing) -> Tensor:
        context.packing = packing
        return row.index_select(0, packing.source)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, context.packing.back), None


class _PutBack(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, taken: Tensor, packing: Packing) -> Tensor:
        context.packing = packing
        return taken.index_select(0, packing.back)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        packing: Packing = context.packing
        return gradient.index_select(0, packing.source).index_fill_(0, packing.empty, 0.0), None


@dataclass(frozen=True)
class Packed:
    """What is left of a padded batch `B T` of tokens without its padding, and the place of each in its sequence."""

    mask: Bool[Tensor, "B T"]
    tokens: Int[Tensor, " N"]
    positions: Int[Tensor, " N"]
    packing: Packing

    def unpack(self, values: Float[Tensor, "N ..."]) -> Float[Tensor, "B T ..."]:
        """Give values of the tokens the places that these had in the padded batch; 0 where there was none."""
        padded = values.new_zeros(*self.mask.shape, *values.shape[1:])
        return padded.masked_scatter(self.mask.view(*self.mask.shape, *(1,) * (values.dim() - 1)), values)


def pack(tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Packed:
    """A batch without its padding, wherever that stands. Each row must have a token."""
    return Packed(mask, tokens[mask], (mask.long().cumsum(1) - 1)[mask], Packing.of(mask.sum(1)))


def read(model: PreTrainedModel, packed: Packed) -> Float[Tensor, "N D"]:
    """What a model without its head makes of every token. From now on it knows how to attend to packed rows.

    Raises BadInput where it cannot.
    """
    if model.config._attn_implementation != PACKED:
        if not model._can_set_attn_implementation():
            raise BadInput(
                f"expected an architecture whose attention goes through transformers' AttentionInterface, got "
                f"{type(model).__name__}"
            )
        model.set_attn_implementation(PACKED)
    return model(
        input_ids=packed.tokens[None],
        attention_mask=packed.mask.new_ones(1, 1, 1, 1),  # not looked at: with one of four axes no other is made
        position_ids=packed.positions[None],
        use_cache=False,
        packing=packed.packing,
    ).last_hidden_state[0]


@torch.no_grad()
def check_reading(model: PreTrainedModel, name: str) -> None:
    """Raises BadInput where a model without its head reads packed sequences in another way than each alone.

    So does one that mixes tokens elsewhere than in attention, such as in a convolution.
    """
    tokens = torch.tensor([[2, 1, 3, 0, 2], [1, 2, 2, 0, 0]], device=model.device)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2], device=model.device)
    together = read(model, pack(tokens, mask))
    rows = [row[real][None] for row, real in zip(tokens, mask, strict=True)]
    alone = [model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False) for row in rows]
    apart = torch.cat([each.last_hidden_state[0] for each in alone])
    if (together - apart).abs().max() > SAME * apart.abs().max():
        raise BadInput(
            f"{name}: expected an architecture that mixes tokens in attention alone, got {type(model).__name__}"
        )


def _attend(
    module: nn.Module,
    query: Float[Tensor, "1 H N D"],
    key: Float[Tensor, "1 G N D"],
    value: Float[Tensor, "1 G N E"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 N H E"], None]:
    """Causal attention within each packed sequence; of a batch that is not packed, torch's own."""
    if packing is None:
        others |= {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise BadInput(f"expected attention that is a softmax of products, got the one of {type(module).__name__}")
    found = []
    with _exact(query.device.type):
        stream = [part[0].transpose(0, 1) for part in (query, key, value)]
        if query.device.type == "cpu":
            stream = [part.to(torch.promote_types(part.dtype, torch.float32)) for part in stream]
        for q, k, v in zip(*map(packing.take, stream), strict=True):
            groups, near = q.shape[1] // k.shape[1], _window(q.shape[2], sliding_window, q.device)
            k, v = repeat_kv(k, groups), repeat_kv(v, groups)
            attended = F.scaled_dot_product_attention(q, k, v, near, dropout, near is None, scale=scaling)
            found.append(attended)
    return packing.put_back(found)[None].to(query.dtype), None


def _exact(device: str) -> AbstractContextManager:
    """On a CPU attention is computed in float32 at least: its backward pass is more than twice as fast as in bf16."""
    return torch.autocast(device, enabled=False) if device == "cpu" else nullcontext()


def _window(length: int, window: int | None, device: torch.device) -> Bool[Tensor, "T T"] | None:
    """Which tokens each one looks at, where that is not all before it."""
    if window is None or length <= window:
        return None
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) & (distance < window)


AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # of batches that are not packed; packed rows bring their own
