"""The policy: how likely it finds a response."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from rlhf_ray.experience import Rollout


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
