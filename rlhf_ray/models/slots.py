"""Slots: a fixed number of rows that come and go at any token, in a batch whose shape never changes.

A prompt is read alone, in the shape that it has. Every token after it is said by all slots together, attending over all
columns, whether a slot is taken or not. So what a row hears depends on what is in that row, bit for bit.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from rlhf_ray.models.decoding import causal_bias, inverse_cdf


class Slots:
    """`rows` sequences of at most `columns` tokens, one model, and the keys and values of all that they hold."""

    def __init__(self, model: PreTrainedModel, rows: int, columns: int) -> None:
        self.model, self.rows, self.columns = model, rows, columns
        self.device = model.device
        self.lowest = torch.finfo(model.dtype).min
        self.cache = _Slotted(model.config.get_text_config(), rows, columns)
        self.bias = torch.full((rows, 1, 1, columns), self.lowest, dtype=model.dtype, device=self.device)
        self.bias[:, :, :, 0] = 0.0  # an empty slot must look somewhere
        self.lengths = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.every = torch.arange(rows, device=self.device)

    @torch.inference_mode()
    def read(self, slots: list[int], tokens: list[int]) -> Float[Tensor, "1 V"]:
        """Put one prompt into these slots; logits of what follows it."""
        ids = torch.tensor([tokens], device=self.device)
        length = ids.shape[1]
        places = torch.arange(length, device=self.device)[None]
        bias = causal_bias(torch.ones_like(ids, dtype=torch.bool), self.model.dtype)
        logits = self._ask(ids, bias, places, self.cache.reading(slots))
        self.lengths[slots] = length
        self.bias[slots] = self.lowest
        self.bias[slots, :, :, :length] = 0.0
        return logits

    @torch.inference_mode()
    def say(self, tokens: Int[Tensor, " S"]) -> Float[Tensor, "S V"]:
        """Every slot hears its next token; logits of what follows. What empty slots say is to be ignored."""
        self.bias[self.every, :, :, self.lengths] = 0.0
        logits = self._ask(tokens[:, None], self.bias, self.lengths[:, None], self.cache.writing(self.lengths))
        self.lengths = (self.lengths + 1).clamp(max=self.columns - 1)
        return logits

    @torch.inference_mode()
    def leave(self, slots: list[int]) -> None:
        """Empty these slots. They go on hearing tokens, at their beginning."""
        self.lengths[slots] = 0

    def _ask(self, tokens: Tensor, bias: Tensor, places: Tensor, cache: Cache) -> Float[Tensor, "b V"]:
        return self.model(
            input_ids=tokens,
            attention_mask=bias,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]


@torch.inference_mode()
def draw(
    logits: Float[Tensor, "B V"],
    uniform: Float[Tensor, " B"],
    temperature: Float[Tensor, " B"],
    top_p: Float[Tensor, " B"],
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """The next token of each row and its log-probability, as `inverse_cdf` draws it; a temperature of 0 is greedy.

    The log-probability is that of the distribution that was drawn from; of a greedy token, that at temperature 1.
    """
    greedy = temperature == 0
    scaled = logits.float() / torch.where(greedy, 1.0, temperature)[:, None]
    if bool((top_p < 1).any()):
        scaled = torch.where((top_p < 1)[:, None], nucleus(scaled, top_p), scaled)
    drawn, likely = inverse_cdf(scaled, uniform)
    if bool(greedy.any()):
        best = logits.argmax(1)
        at_best = logits.float().log_softmax(1).gather(1, best[:, None])[:, 0]
        drawn, likely = torch.where(greedy, best, drawn), torch.where(greedy, at_best, likely)
    return drawn, likely


def nucleus(logits: Float[Tensor, "B V"], top_p: Float[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """The logits with all but the likeliest tokens ruled out: the fewest whose probabilities add up to `top_p`."""
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    likely = ordered.softmax(1)
    before = likely.cumsum(1) - likely
    kept = torch.where(before < top_p[:, None], ordered, -torch.inf)
    return torch.empty_like(logits).scatter_(1, order, kept)


class _Slotted(Cache):
    """Keys and values of all slots, reserved once. A prompt goes to some of them, a token to each at its own column."""

    def __init__(self, config: PreTrainedConfig, rows: int, columns: int) -> None:
        self.slots: list[int] = []
        self.columns: Tensor | None = None
        super().__init__(layers=[_Layer(self, rows, columns) for _ in range(config.num_hidden_layers)])

    def reading(self, slots: list[int]) -> "_Slotted":
        self.slots, self.columns = slots, None
        return self

    def writing(self, columns: Int[Tensor, " S"]) -> "_Slotted":
        self.columns = columns
        return self


class _Layer(CacheLayerMixin):
    def __init__(self, cache: _Slotted, rows: int, columns: int) -> None:
        super().__init__()
        self.cache, self.rows, self.columns = cache, rows, columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(self.rows, states.shape[1], self.columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.every = torch.arange(self.rows, device=key_states.device)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        columns = self.cache.columns
        if columns is None:
            length = key_states.shape[2]
            self.keys[self.cache.slots, :, :length] = key_states
            self.values[self.cache.slots, :, :length] = value_states
            return key_states, value_states
        self.keys[self.every, :, columns] = key_states[:, :, 0]
        self.values[self.every, :, columns] = value_states[:, :, 0]
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (self.columns if self.cache.columns is not None else query_length), 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.columns
