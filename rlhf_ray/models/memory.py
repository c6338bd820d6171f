"""Two ways to learn with a model that is too large: compute activations twice, and split the model over learners."""

from collections.abc import Iterator
from types import MethodType

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_ray.models.policy import foretell


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the input of each layer for the backward pass, which computes the rest once more.

    transformers does so in training mode only. That is set on the layers themselves and not on what is in them, so
    dropout stays off.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    for layer in _layers(model):
        layer.training = True


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Split the model's parameters over the mesh, layer by layer (FSDP2). Gradients are summed, not averaged."""
    for part in [*_layers(model), model]:
        # Also the outermost: after `estimate` nothing would put its parameters back, and whoever asks would get those.
        sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other way to leave a sum as it is


def shard_policy(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Split a causal model, which is then put together too where it is asked to foretell."""
    shard(model, mesh)
    setattr(model, foretell.__name__, MethodType(foretell, model))
    register_fsdp_forward_method(model, foretell.__name__)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    yield from (layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer))
