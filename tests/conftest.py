"""What every test may rely on: one thread, no network, checked shapes, and tiny models made on the fly."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["rlhf_ray.algorithms", "rlhf_ray.experience"], "beartype.beartype")
torch.set_num_threads(1)

# The same examples every time: a test that turns red says that the code has changed.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

SENTENCES = [
    "the quick brown fox jumps over the lazy dog.",
    "pack my box with five dozen liquor jugs.",
    "how vexingly quick daft zebras jump.",
]
EOS, PAD = "<eos>", "<pad>"  # their ids are 0 and 1


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random GPT-2 of 64 places and 64 tokens, and its tokenizer with a padding token of its own."""
    return save_policy(tmp_path_factory.mktemp("policy"), pad=PAD)


@pytest.fixture(scope="session")
def eos_padded_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, but the tokenizer knows no padding token, as GPT-2's own."""
    return save_policy(tmp_path_factory.mktemp("eos_padded"), pad=None)


@pytest.fixture(scope="session", params=["policy_folder", "eos_padded_folder"])
def each_folder(request: pytest.FixtureRequest) -> str:
    """The one policy, then the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random reward model for the same tokens; also the critic's beginning."""
    from transformers import GPT2ForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    config = tiny_config(num_labels=1, pad_token_id=1)
    config.score_mean, config.score_std = 0.3, 1.7
    with torch.random.fork_rng():
        torch.manual_seed(2)
        GPT2ForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tokenizer(policy_folder: str) -> Any:
    from rlhf_ray.models.loading import load_tokenizer

    return load_tokenizer(policy_folder)


@pytest.fixture(scope="session")
def rollout_of() -> Callable:
    return build_rollout


def build_rollout(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    prompt_width: int | None = None,
    response_width: int | None = None,
    pad: int = 1,
    eos: int = 0,
) -> Any:
    """A rollout of these token ids; its log-probabilities are left 0."""
    from rlhf_ray.experience import PromptBatch, Rollout

    tokens, mask = padded(prompts, prompt_width or max(map(len, prompts)), pad, left=True)
    each = torch.arange(len(prompts))
    prompt = PromptBatch(tokens, mask, each, each)
    tokens, mask = padded(responses, response_width or max(map(len, responses)), pad, left=False)
    ended = torch.tensor([response[-1] == eos for response in responses])
    return Rollout(prompt, tokens, mask, torch.zeros(tokens.shape), ended, torch.zeros_like(each))


def padded(rows: Sequence[Sequence[int]], width: int, pad: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[place, columns] = torch.tensor(row)
        mask[place, columns] = True
    return tokens, mask


def save_policy(folder: Path, pad: str | None) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_of.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=64, special_tokens=[EOS, PAD], show_progress=False)
    bytes_of.train_from_iterator(SENTENCES, trainer)
    PreTrainedTokenizerFast(tokenizer_object=bytes_of, eos_token=EOS, pad_token=pad).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        GPT2LMHeadModel(tiny_config()).save_pretrained(folder)
    return str(folder)


def tiny_config(**more: Any) -> Any:
    """Weights far larger than usual, so that a random model has opinions; dropout as GPT-2 has it."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=64,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        **more,
    )


CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer_of(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level tokenizer as Qwen2's: its template writes `<|im_start|>`, and `<|im_end|>` ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_of.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    bytes_of.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_of, eos_token=special[2], pad_token=special[0], additional_special_tokens=[special[1]]
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="session")
def chatml() -> Any:
    return chat_tokenizer_of(SENTENCES, 300)
