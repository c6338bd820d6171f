"""LoRA (arXiv:2106.09685), by peft: a frozen base, and small adapters that are all that learns."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from peft import LoraConfig, TaskType
from pydantic import Field
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlhf_ray.config import BadInput, Config
from rlhf_ray.models.folder import resolve
from rlhf_ray.models.plain import ADAPTER

HEAD = "score"  # a classifier's head is too small for an adapter, and no good without learning


class Lora(Config):
    """The adapters of policy, critic and reward model."""

    r: int = Field(8, ge=1, description="Rank of an adapter.")
    alpha: int = Field(16, ge=1, description="What an adapter adds is scaled by alpha / r.")
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear", min_length=1, description="Names of the layers to adapt; all-linear: all but the heads."
    )


def adapt(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Give the model adapters, which with a classifier's head are all that learns from now on.

    What the model computes stays as it is until they do. Raises BadInput where it has none of the target layers.
    """
    kind = TaskType.SEQ_CLS if hasattr(model, HEAD) else TaskType.CAUSAL_LM
    form = LoraConfig(task_type=kind, r=lora.r, lora_alpha=lora.alpha, target_modules=lora.targets)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # peft then sees to it by itself
        torch.manual_seed(seed)
        try:
            model.add_adapter(form)
        except ValueError as error:
            raise BadInput(
                f"lora.targets: expected names of layers of {type(model).__name__}, got {lora.targets} "
                f"({str(error).splitlines()[0]})"
            ) from None
    adapter = model.peft_config[ADAPTER]
    adapter.target_modules = sorted(
        adapter.target_modules
    )  # peft has a set, which each process would write differently
    if kind == TaskType.SEQ_CLS:
        model.get_submodule(HEAD).requires_grad_(True)
    model.eval()


def check_targets(name: str, lora: Lora) -> None:
    """Raises BadInput where the model `name` has none of the target layers. Reads its config only, not its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(resolve(name)))
        adapt(model, lora, seed=0)


@contextmanager
def adapters_off(model: PreTrainedModel) -> Iterator[None]:
    """In here the model is what it was before it was adapted."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()
