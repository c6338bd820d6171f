"""Ways to save memory change what is kept, never what is learned."""

from collections.abc import Callable

import pytest
import torch

from rlhf_ray.experience import Rollout
from rlhf_ray.models.adapters import Lora, adapt
from rlhf_ray.models.loading import load_causal
from rlhf_ray.models.memory import recompute_activations
from rlhf_ray.models.policy import response_logprobs


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    return rollout_of([[5, 6], [7], [8, 9, 10]], [[20, 21, 0], [22, 23, 24, 25], [26, 0]])


def learned_from(model: torch.nn.Module, rollout: Rollout) -> tuple[int, list[torch.Tensor]]:
    """Numbers kept for the backward pass, and the gradients."""
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, _ = response_logprobs(model, rollout, 1.0)  # type: ignore[arg-type]
    logprobs.square().sum().backward()
    return kept, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("lora", [None, Lora()])
def test_activations_computed_twice_give_the_same_gradient_from_less(
    policy_folder: str, rollout: Rollout, lora: Lora | None
) -> None:
    models = [load_causal(policy_folder) for _ in range(2)]
    assert models[0].config.resid_pdrop > 0  # dropout would make the second computation another one
    for model in models:
        if lora:
            adapt(model, lora, seed=1)
    recompute_activations(models[1])
    (kept, gradients), (kept_less, same) = (learned_from(model, rollout) for model in models)
    assert kept_less < 0.6 * kept
    assert gradients
    for one, other in zip(gradients, same, strict=True):
        assert torch.equal(one, other)
