"""The policy: how likely it finds a response."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.likelihood import likelihoods
from rlhf_ray.models.packing import SAME, Packed, check_reading, pack, read


def positions(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The place of each token among the real ones. GPT-2 does not derive it from the mask by itself."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def response_logprobs(
    model: PreTrainedModel, rollout: Rollout, temperature: float
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """Log-probability of each response token and entropy (nats, without gradient) at each; zero where masked.

    Padding is not computed, and logits are made of response tokens alone.
    """
    # A sharded model puts itself together only for what it knows as its own method (models/memory.py).
    ask = getattr(model, foretell.__name__, partial(foretell, model))
    found = ask(pack(*side_by_side(rollout)), before_response(rollout), temperature)
    empty = torch.zeros(rollout.mask.shape, device=rollout.mask.device)
    logprobs, entropy = (empty.masked_scatter(rollout.mask, part) for part in found)
    return logprobs, entropy


def foretell(
    model: PreTrainedModel, packed: Packed, places: Int[Tensor, " n"], temperature: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Log-probability of each token that follows one of the places, and entropy there."""
    hidden = read(model.base_model, packed).index_select(0, places)
    return likelihoods(model.get_output_embeddings(), hidden, packed.tokens[places + 1], temperature)


def side_by_side(rollout: Rollout) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Tokens and mask of the prompts with their responses."""
    tokens = torch.cat([rollout.prompt.tokens, rollout.tokens], dim=1)
    return tokens, torch.cat([rollout.prompt.mask, rollout.mask], dim=1)


def before_response(rollout: Rollout) -> Int[Tensor, " N"]:
    """Among the tokens of the packed rollout, the place before each response token: where that is foretold."""
    is_response = torch.cat([torch.zeros_like(rollout.prompt.mask), rollout.mask], dim=1)
    return is_response[side_by_side(rollout)[1]].nonzero()[:, 0] - 1


@torch.no_grad()
def check_policy(model: PreTrainedModel, name: str) -> None:
    """Raises BadInput where a causal model cannot be read packed, or where its head is not its last step."""
    check_reading(model.base_model, name)
    tokens = torch.tensor([[2, 1, 3]], device=model.device)
    packed = pack(tokens, torch.ones_like(tokens, dtype=torch.bool))
    ours = model.get_output_embeddings()(read(model.base_model, packed))
    theirs = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[0]
    if (ours - theirs).abs().max() > SAME * theirs.abs().max():
        raise BadInput(
            f"{name}: expected an architecture whose logits are what its head says, got {type(model).__name__}"
        )
