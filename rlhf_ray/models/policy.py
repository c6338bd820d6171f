"""The policy: how likely it finds a response, and how it decodes one."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from rlhf_ray.experience import PromptBatch, Rollout


@dataclass(frozen=True)
class Sequences:
    """Prompts and responses side by side, without the columns in which no row has a token.

    `start` is the column of the first response token, `width` the number of response columns before the trimming.
    """

    tokens: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    positions: Int[Tensor, "B T"]
    start: int
    width: int

    def restore(self, values: Float[Tensor, "B r"]) -> Float[Tensor, "B R"]:
        """Give values of the kept response columns the width they had in the rollout."""
        return F.pad(values, (0, self.width - values.shape[1]))


def sequences(rollout: Rollout) -> Sequences:
    left = int(rollout.prompt.mask.any(0).int().argmax())
    length = max(1, int(rollout.mask.any(0).sum()))
    mask = torch.cat([rollout.prompt.mask[:, left:], rollout.mask[:, :length]], dim=1)
    tokens = torch.cat([rollout.prompt.tokens[:, left:], rollout.tokens[:, :length]], dim=1)
    return Sequences(tokens, mask, positions(mask), rollout.prompt.mask.shape[1] - left, rollout.mask.shape[1])


def positions(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The place of each token among the real ones. GPT-2 does not derive it from the mask by itself."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def response_logits(model: PreTrainedModel, rollout: Rollout, temperature: float) -> Float[Tensor, "B r V"]:
    """Logits that predict each response token, for the columns in which any row has one (`r <= R`)."""
    seq = sequences(rollout)
    kept = seq.tokens.shape[1] - seq.start
    output = model(
        input_ids=seq.tokens,
        attention_mask=seq.mask.long(),
        position_ids=seq.positions,
        use_cache=False,
        logits_to_keep=kept + 1,
    )
    return output.logits[:, :-1] / temperature


def response_logprobs(
    model: PreTrainedModel, rollout: Rollout, temperature: float
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """Log-probability of each response token and entropy (nats, without gradient) at each; zero where masked."""
    logits = response_logits(model, rollout, temperature)
    r, width = logits.shape[1], rollout.mask.shape[1]
    mask = rollout.mask[:, :r]
    everything = logits.log_softmax(-1)
    logprobs = everything.gather(2, rollout.tokens[:, :r, None])[:, :, 0]
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)
    return tuple(F.pad(torch.where(mask, part, 0.0), (0, width - r)) for part in (logprobs, entropy))  # type: ignore[return-value]


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

    A row ends with `eos`, which belongs to its response. Ended rows leave the batch once they are half of it, so what
    is computed depends on these prompts and numbers alone.
    """
    size, width = uniforms.shape
    device = uniforms.device
    tokens = torch.full((size, width), eos, device=device)
    mask = torch.zeros(size, width, dtype=torch.bool, device=device)
    logprobs = torch.zeros(size, width, device=device)
    left = int(prompt.mask.any(0).int().argmax())
    attended = prompt.mask[:, left:]
    rows = torch.arange(size, device=device)
    running = torch.ones(size, dtype=torch.bool, device=device)
    cache = DynamicCache(config=model.config)
    step_tokens, step_positions = prompt.tokens[:, left:], positions(attended)
    for t in range(width):
        logits = model(
            input_ids=step_tokens,
            attention_mask=attended.long(),
            position_ids=step_positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        everything = (logits / temperature).log_softmax(-1)
        drawn = inverse_cdf(everything, uniforms[rows, t])
        tokens[rows[running], t] = drawn[running]
        mask[rows[running], t] = True
        logprobs[rows[running], t] = everything.gather(1, drawn[:, None])[running, 0]
        running = running & (drawn != eos)
        if not running.any():
            break
        attended = F.pad(attended, (0, 1), value=True)
        step_tokens, step_positions = drawn[:, None], positions(attended)[:, -1:]
        if 2 * int(running.sum()) <= len(rows):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, running, attended = rows[kept], running[kept], attended[kept]
            step_tokens, step_positions = step_tokens[kept], step_positions[kept]
    ended = (mask & (tokens == eos)).any(1)
    return Rollout(prompt, tokens, mask, logprobs, ended, torch.full_like(prompt.sample, version))


def inverse_cdf(logprobs: Float[Tensor, "B V"], uniform: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
    """The token at which the cumulated probability passes the number, in float64."""
    cumulated = logprobs.double().exp().cumsum(-1)
    drawn = torch.searchsorted(cumulated, (uniform.double() * cumulated[:, -1])[:, None], right=True)[:, 0]
    return drawn.clamp(max=logprobs.shape[1] - 1)
