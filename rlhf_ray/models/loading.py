"""Hugging Face models and tokenizers from a folder, a hub name, or the base that ships with the package."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from rlhf_ray.alarm import Alarm, NotFinite
from rlhf_ray.config import BadInput
from rlhf_ray.models.folder import resolve

logging.disable_progress_bar()  # loading takes a moment; a bar for it would only clutter the log


def check_finite(folder: Path) -> None:
    """Raises NotFinite, naming the tensor, where a model that was just trained holds something that is no number."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (it is no dict)
                if not tensors.get_tensor(name).isfinite().all():
                    raise NotFinite(
                        Alarm(
                            "weights",
                            f"after the training {name} holds something that is not a number",
                            "a learning rate so large that the model left the range of its numbers",
                            "lower the stage's learning rate (sft.lr or reward.lr)",
                        )
                    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer with an end-of-text token. Where there is no padding token, end-of-text pads: masks are explicit."""
    tokenizer = _from_pretrained(AutoTokenizer, name)
    if tokenizer.eos_token_id is None:
        raise BadInput(f"{name}: expected a tokenizer with an end-of-text token (eos_token), found none")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal(name: str) -> PreTrainedModel:
    """A causal language model, in float32 and in evaluation mode. Raises BadInput where it does not load."""
    return _settled(_from_pretrained(AutoModelForCausalLM, name, **_FORM))


def load_classifier(name: str) -> PreTrainedModel:
    """A sequence classifier with one output; its head is random where the folder holds a causal model."""
    model = _from_pretrained(AutoModelForSequenceClassification, name, num_labels=1, **_FORM)
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise BadInput(
            f"{name}: expected an architecture whose classifier has a linear `score` head, got {type(model).__name__}"
        )
    return _settled(model)


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    rows = model.get_input_embeddings().num_embeddings
    if rows < len(tokenizer):
        raise BadInput(f"{name}: expected a model with at least the tokenizer's {len(tokenizer)} tokens, got {rows}")


def check_same_vocabulary(name: str, other: str) -> None:
    """Two models that read the same tokens must spell them alike. Raises BadInput where they do not."""
    first, second = load_tokenizer(name).get_vocab(), load_tokenizer(other).get_vocab()
    if first != second:
        raise BadInput(
            f"{other}: expected the vocabulary of {name} ({len(first)} tokens), got another one ({len(second)} tokens)"
        )


def context_length(name: str) -> int:
    """How many tokens a sequence may have; no limit where the model does not name one."""
    config = _from_pretrained(AutoConfig, name)
    return int(getattr(config, "max_position_embeddings", None) or 10**9)


# Eager attention in float32: the same rows give the same bits whatever the batch around them holds.
_FORM = {"attn_implementation": "eager", "dtype": torch.float32}


def _from_pretrained(kind, name: str, **form):
    path = resolve(name)
    if Path(path).exists() and not Path(path, "config.json").is_file():
        raise BadInput(f"{name}: expected a model folder with config.json, found none")
    if not Path(path).exists() and name.startswith((".", "/", "~")):
        raise BadInput(f"{name}: expected a model folder, found none")
    try:
        return kind.from_pretrained(path, trust_remote_code=False, **form)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{name}: expected a model folder or hub name that loads, got: {_first_line(error)}") from None


def _settled(model: PreTrainedModel) -> PreTrainedModel:
    """Evaluation mode for good: dropout would make the policy disagree with its own samples."""
    return model.eval()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
