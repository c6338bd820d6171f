"""The work that a speed comparison gives to both sides: models, prompts and settings of one size, in a folder.

The models are random but for one thing: at every token they end the text with the same probability, so that responses
have the wanted mean length whatever else happens. Learning rates are so small that this stays so. Needs only torch,
transformers and tokenizers, since each side has an environment of its own.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast

EOS, PAD = 0, 1  # token ids
SEED = 0


@dataclass(frozen=True)
class Size:
    """A GPT-2 and what an iteration does with it. `prompt` are the shortest and the longest prompt, in tokens."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    episodes: int
    prompt: tuple[int, int]
    response: int  # most tokens
    mean_response: float
    epochs: int = 4
    minibatches: int = 1
    lr: float = 1e-6

    @property
    def mean_prompt(self) -> float:
        return sum(self.prompt) / 2

    @property
    def parameters(self) -> int:
        """Of the policy: embeddings of tokens and places, layers with their biases and norms, and the last norm."""
        w = self.width
        return (self.vocabulary + self.context) * w + self.layers * (12 * w * w + 13 * w) + 2 * w

    @property
    def context(self) -> int:
        """Places that the models have: one more than a sequence needs, for an end-of-text behind a cut-off one."""
        return self.prompt[1] + self.response + 1


SIZES = {
    "tiny": Size(4, 256, 4, 2_000, episodes=64, prompt=(20, 50), response=64, mean_response=33),
    "distilgpt2": Size(6, 768, 12, 50_257, episodes=16, prompt=(12, 28), response=53, mean_response=33),
}


def make(size: Size, folder: Path) -> None:
    """Write `policy` (also the reference), `reward` (also the critic), `prompts.json` and `size.json`."""
    torch.manual_seed(SEED)
    prompts = draw_prompts(size)
    form = {
        "vocab_size": size.vocabulary,
        "n_positions": size.context,
        "n_embd": size.width,
        "n_layer": size.layers,
        "n_head": size.heads,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    policy = GPT2LMHeadModel(GPT2Config(**form)).eval()
    end_at_random(policy, prompts, hazard(size.mean_response, size.response))
    reward = GPT2Config(**form, num_labels=1, score_mean=0.0, score_std=1.0)
    for name, model in (("policy", policy), ("reward", GPT2ForSequenceClassification(reward))):
        model.save_pretrained(folder / name)
        words(size.vocabulary).save_pretrained(folder / name)
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    (folder / "size.json").write_text(json.dumps(asdict(size)), encoding="utf-8")


def read_size(folder: Path) -> Size:
    values = json.loads((folder / "size.json").read_text(encoding="utf-8"))
    return Size(**(values | {"prompt": tuple(values["prompt"])}))


def draw_prompts(size: Size) -> list[list[int]]:
    """One batch of prompts: every iteration asks them all. Lengths are spread evenly from the shortest on."""
    draw, (shortest, longest) = random.Random(SEED), size.prompt
    lengths = [shortest + (longest - shortest) * row // (size.episodes - 1) for row in range(size.episodes)]
    draw.shuffle(lengths)
    return [[draw.randrange(PAD + 1, size.vocabulary) for _ in range(length)] for length in lengths]


def words(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose token number n is the word `wn`, so that texts and token ids say the same."""
    spelled = {"<eos>": EOS, "<pad>": PAD} | {f"w{number}": number for number in range(PAD + 1, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(spelled, unk_token="<eos>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")  # noqa: S106


def hazard(mean: float, most: int) -> float:
    """The probability of ending at each token with which a response of at most `most` tokens has the mean length."""
    return bisect(lambda p: -(1 - (1 - p) ** most) / p, -mean, 1e-6, 1.0)


@torch.no_grad()
def end_at_random(policy: GPT2LMHeadModel, prompts: list[list[int]], probability: float) -> None:
    """Make end-of-text about as probable at every place, and padding impossible, by a direction that all states share.

    The bias of the last norm points along it, the row of end-of-text lies along it, and that of padding against it.
    """
    embedding, norm = policy.get_input_embeddings().weight, policy.transformer.ln_f
    direction = torch.nn.functional.normalize(torch.randn(embedding.shape[1]), dim=0)
    embedding[EOS], embedding[PAD] = 0.25 * direction, -direction

    last = torch.stack([policy(torch.tensor([prompt])).logits[0, -1] for prompt in prompts])
    along = embedding @ direction
    strength = bisect(lambda much: float((last + much * along).softmax(-1)[:, EOS].mean()), probability, 0.0, 100.0)
    norm.bias.copy_(strength * direction)


def bisect(function: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a growing function has the wanted value."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < wanted else (low, middle)
    return (low + high) / 2


def lengths(responses: Tensor) -> list[int]:
    """Tokens of each response `B R`, with its end-of-text."""
    before_end = (responses == EOS).int().cumsum(1) - (responses == EOS).int() == 0
    return before_end.sum(1).tolist()
