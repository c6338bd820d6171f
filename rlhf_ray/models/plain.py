"""The plain model behind one that learns: its adapters merged, its shards joined, as samplers and people want it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

ADAPTER = "default"  # peft's name for a model's only adapter


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this process perhaps holds a shard. Then all ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def plain_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters that the model would have without adapters and shards, in the order of such a model.

    An adapter is added to its layer's weight here; the model itself stays as it is.
    """
    adapters = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    for name, parameter in model.named_parameters():
        layer, of_base, rest = name.partition(".base_layer.")
        if of_base and rest == "weight":
            yield f"{layer}.{rest}", parameter + adapters[layer].get_delta_weight(ADAPTER)
        elif of_base:
            yield f"{layer}.{rest}", parameter
        elif ".lora_" not in name:
            yield name, whole(parameter)


def changing_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Those of the plain parameters that learning must change: all of them, or where there are adapters, theirs."""
    adapted = {f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    yield from ((name, tensor) for name, tensor in plain_parameters(model) if not adapted or name in adapted)


@torch.no_grad()
def plain(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own that computes the same, without adapters and shards."""
    kinds: list[type[PreTrainedModel]] = [kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule)]
    copied = kinds[0](copy.deepcopy(model.config))
    for parameter, (_, value) in zip(copied.parameters(), plain_parameters(model), strict=True):
        parameter.copy_(value)
    if model.can_generate():
        copied.generation_config = model.generation_config
    return copied.eval()


def learned(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that learn, whole."""
    return {name: whole(parameter.detach()).cpu().contiguous() for name, parameter in _learning(model)}


@torch.no_grad()
def relearn(model: nn.Module, path: Path) -> None:
    """Become what `learned` was, from its safetensors or a model folder's."""
    tensors = load_file(path)
    for name, parameter in _learning(model):
        value = tensors[name].to(parameter.device)
        if isinstance(parameter, DTensor):
            value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        parameter.copy_(value)


def _learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    yield from ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
