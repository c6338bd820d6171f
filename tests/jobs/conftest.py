"""Random models that can read any text, for tests of whole stages."""

from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 512 places, its tokenizer trained on the demo's statements. It has no padding token."""
    return _random_model(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def other_vocabulary_reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model whose tokenizer was trained on other texts."""
    from transformers import GPT2ForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    tokenizer = _tokenizer(seed=1)
    config = _config(len(tokenizer), num_labels=1, pad_token_id=0)
    config.score_mean, config.score_std = 0.0, 1.0
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _random_model(folder: Path, seed: int) -> Path:
    from transformers import GPT2LMHeadModel

    tokenizer = _tokenizer(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        GPT2LMHeadModel(_config(len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(seed: int) -> Any:
    from rlhf_ray.incidents.world import make_corpus
    from rlhf_ray.training.pretrain import Pretraining, train_tokenizer

    tokenizer = train_tokenizer(
        [row["prompt"] for row in make_corpus(60, seed)], Pretraining(vocabulary=400, context=512)
    )
    tokenizer.pad_token = None
    return tokenizer


def _config(vocabulary: int, **more: Any) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocabulary, n_positions=512, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, **more
    )
