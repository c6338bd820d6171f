"""Decoding: a prompt is read once, then every token is drawn by a number that was given for it.

Rows of similar length are read together, keys and values lie in a room reserved once, and a row that ends leaves the
batch at once. What is computed depends on the prompts and the numbers alone.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.policy import positions
from rlhf_ray.models.room import Room

READ_TOGETHER = 16  # prompts; fewer would leave matrix products too thin, more would bring the padding back


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    prompt: PromptBatch,
    uniforms: Float[Tensor, "B R"],
    *,
    temperature: float,
    eos: int,
    version: int = 0,
) -> Rollout:
    """Draw one response a prompt by inverse CDF: the number in `uniforms` decides each token, nothing else does.

    A row ends with `eos`, which belongs to its response; `version` is that of the model's weights. The model must
    attend to all that came before (`workers/engines/own.py` checks it).
    """
    size, width = uniforms.shape
    tokens = torch.full((size, width), eos, device=uniforms.device)
    mask = torch.zeros(size, width, dtype=torch.bool, device=uniforms.device)
    logprobs = torch.zeros(size, width, device=uniforms.device)
    ended = torch.zeros(size, dtype=torch.bool, device=uniforms.device)
    rows = prompt.mask.sum(1).argsort(stable=True)
    speakers = Speakers(model, prompt[rows], width)
    logits = speakers.read()
    for t in range(width):
        drawn, likely = inverse_cdf(logits.float() / temperature, uniforms[rows, t])
        tokens[rows, t], mask[rows, t], logprobs[rows, t] = drawn, True, likely
        going = drawn != eos
        ended[rows[~going]] = True
        if t + 1 == width or not going.any():
            break
        rows, drawn = speakers.leave(going, rows, drawn)
        logits = speakers.say(drawn)
    return Rollout(prompt, tokens, mask, logprobs, ended, torch.full_like(prompt.sample, version))


class Speakers:
    """The rows that still speak, side by side in a room. They begin in the order of their prompts' lengths."""

    def __init__(self, model: PreTrainedModel, prompt: PromptBatch, response_tokens: int) -> None:
        self.model = model
        self.lengths = prompt.mask.sum(1)
        self.asked = int(self.lengths.max())
        self.tokens = prompt.tokens[:, prompt.tokens.shape[1] - self.asked :]
        self.mask = prompt.mask[:, prompt.mask.shape[1] - self.asked :]
        self.said = 0
        self.room = Room(model.config, len(prompt), self.asked + response_tokens)
        self.bias = torch.zeros(len(prompt), self.asked + response_tokens, dtype=model.dtype, device=self.mask.device)
        self.bias[:, : self.asked].masked_fill_(~self.mask, torch.finfo(model.dtype).min)

    def read(self) -> Float[Tensor, "B V"]:
        """Read the prompts, some at a time and each time only the columns that are in use; logits of what follows."""
        parts = torch.arange(len(self.lengths)).split(READ_TOGETHER)
        return torch.cat([self._read(int(part[0]), int(part[-1]) + 1) for part in parts])

    def _read(self, begin: int, end: int) -> Float[Tensor, "b V"]:
        rows, left = slice(begin, end), self.asked - int(self.lengths[end - 1])
        mask = self.mask[rows, left:]
        bias = causal_bias(mask, self.model.dtype)
        return self._ask(self.tokens[rows, left:], bias, positions(mask), self.room.at(rows, left, left))

    def say(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b V"]:
        """Hear one more token of each row; logits of what follows it."""
        last = self.asked + self.said
        first = self.asked - int(self.lengths.max())
        room = self.room.at(slice(0, len(tokens)), first, last)
        bias = self.bias[:, None, None, first : last + 1]
        logits = self._ask(tokens[:, None], bias, (self.lengths + self.said)[:, None], room)
        self.said += 1
        return logits

    def leave(self, going: Bool[Tensor, " b"], *numbers: Tensor) -> tuple[Tensor, ...]:
        """Let the rows that are not `going` leave: those at the end take their places. The same for `numbers`."""
        count = int(going.sum())
        if count == len(going):
            return numbers
        free = (~going[:count]).nonzero()[:, 0]
        movers = count + going[count:].nonzero()[:, 0]
        self.room.move(movers, free)
        self.lengths, self.bias, *kept = (
            _moved(part, movers, free, count) for part in (self.lengths, self.bias, *numbers)
        )
        return tuple(kept)

    def _ask(self, tokens: Tensor, bias: Tensor, places: Tensor, room: Room) -> Float[Tensor, "b V"]:
        """The mask comes as the bias that attention adds: to have it derived costs a small model half its step."""
        return self.model(
            input_ids=tokens,
            attention_mask=bias,
            position_ids=places,
            past_key_values=room,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]


def causal_bias(mask: Bool[Tensor, "B T"], dtype: torch.dtype) -> Float[Tensor, "B 1 T T"]:
    """0 where a token may look, the lowest number where it may not: at padding, and at what comes later."""
    later = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).triu(1)
    hidden = later | ~mask[:, None, None, :]
    return torch.zeros(hidden.shape, dtype=dtype, device=mask.device).masked_fill_(hidden, torch.finfo(dtype).min)


def inverse_cdf(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"]
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """The token at which the cumulated probability passes the number, and its log-probability.

    Probabilities have the precision of the logits; they are added up in float64, so that none of a large vocabulary is
    lost. To draw needs no normalised probability: the sum at the end is what they would be divided by.
    """
    shifted = logits - logits.amax(1, keepdim=True)
    cumulated = shifted.exp().cumsum(1, dtype=torch.float64)
    total = cumulated[:, -1:]
    drawn = torch.searchsorted(cumulated, uniform.double()[:, None] * total, right=True).clamp(max=logits.shape[1] - 1)
    return drawn[:, 0], (shifted.gather(1, drawn) - total.log())[:, 0].to(logits.dtype)


def _moved(part: Tensor, old: Tensor, new: Tensor, count: int) -> Tensor:
    part[new] = part[old]
    return part[:count]
