"""Tiny random models, saved as those are whose architecture they have."""

from pathlib import Path
from typing import Any

from rlhf_ray.incidents.world import make_corpus
from tests.conftest import chat_tokenizer_of


def texts() -> list[str]:
    return [row["prompt"] + row["completion"] for row in make_corpus(300, 0)]


def gpt2(folder: Path) -> None:
    """As distilgpt2: no padding token, no chat template."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from rlhf_ray.training.pretrain import Pretraining, train_tokenizer

    tokenizer = train_tokenizer(texts(), Pretraining(vocabulary=2000, context=1024))
    tokenizer.pad_token = None
    shape = {"n_positions": 1024, "n_embd": 32, "n_layer": 2, "n_head": 2}
    save(
        folder,
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **shape)),
        tokenizer,
    )


def qwen(folder: Path) -> None:
    """As Qwen2.5-0.5B-Instruct: grouped queries, tied embeddings, more rows than tokens, a chat template."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = chat_tokenizer_of(texts(), 2000)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    form = {"num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True}
    ends = {"bos_token_id": 0, "eos_token_id": tokenizer.eos_token_id}
    save(folder, Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer) + 8, **shape, **form, **ends)), tokenizer)


def save(folder: Path, model: Any, tokenizer: Any) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
