"""The sampler against transformers' `generate` as TRL's PPO calls it, on the same prompts: tokens a CPU-second.

TRL samples a fixed number of tokens, keeps the scores of each, and cuts the response at its first end-of-text. Both
sides run in one process, in turn, on the threads that OMP_NUM_THREADS names; each figure is the median of several
turns. The random models end where the benchmark says, after 33 tokens in the mean, and only what came before counts.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/sampling.py [tiny] [shipped] [medium]
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from floor import precisions
from tables import head, here, line, write
from torch import Tensor
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel, set_seed

from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.incidents.world import make_prompts
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.decoding import decode
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.text import encode_prompts

TURNS = 5
MEAN, END_OF_TEXT = 33, 0


@dataclass(frozen=True)
class Case:
    """A model, prompts for it, and the numbers that decide what it says."""

    name: str
    model: Callable[[], PreTrainedModel]
    prompts: PromptBatch
    uniforms: Tensor
    eos: int


def random_case(name: str, layers: int, width: int, heads: int, vocabulary: int, rows: int, most: int) -> Case:
    def model() -> PreTrainedModel:
        set_seed(0)
        ids = {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT}
        shape = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary, "n_positions": 256}
        return GPT2LMHeadModel(GPT2Config(**shape, **ids, attn_implementation="eager")).eval()

    numbers = torch.Generator().manual_seed(1)
    lengths = torch.randint(20, 51, (rows,), generator=numbers)
    tokens = torch.randint(1, vocabulary, (rows, 50), generator=numbers)
    mask = torch.arange(50) >= 50 - lengths[:, None]
    uniforms = torch.rand(rows, most, generator=numbers, dtype=torch.float64).clamp(min=0.01)
    ends = torch.randint(2, 2 * MEAN, (rows,), generator=numbers)
    uniforms[torch.arange(rows)[ends <= most], ends[ends <= most] - 1] = 0.0  # 0 draws token 0, which is end-of-text
    each = torch.arange(rows)
    return Case(name, model, PromptBatch(tokens, mask, each, each), uniforms, END_OF_TEXT)


def shipped_case() -> Case:
    tokenizer = load_tokenizer("shipped")
    texts = [row["prompt"] for row in make_prompts(64, 0, heldout=False)]
    uniforms = torch.rand(64, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prompts = encode_prompts(tokenizer, texts, 80)
    return Case("shipped, real prompts", lambda: load_causal("shipped"), prompts, uniforms, tokenizer.eos_token_id)


def own(model: PreTrainedModel, case: Case) -> Rollout:
    return decode(model, case.prompts, case.uniforms, temperature=1.0, eos=case.eos)


@torch.no_grad()
def peer(model: PreTrainedModel, case: Case) -> Tensor:
    how = GenerationConfig(
        max_new_tokens=case.uniforms.shape[1],
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=case.eos,
    )
    model.generation_config.eos_token_id = None
    left = int(case.prompts.mask.any(0).int().argmax())
    output = model.generate(
        input_ids=case.prompts.tokens[:, left:],
        attention_mask=case.prompts.mask[:, left:].long(),
        generation_config=how,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return torch.stack(output.scores, 1)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(*works: Callable[[], object]) -> list[float]:
    """CPU-seconds of each, the median over the turns; one turn before them warms up."""
    turns = [[seconds(work) for work in works] for _ in range(TURNS + 1)][1:]
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def measure(case: Case, half: bool) -> list[str]:
    """Both sides in fp32, and where the machine multiplies it in bf16, whose gain is over `generate` in fp32."""
    plain, fused = case.model(), fuse_activations(case.model())
    tokens = int(own(fused, case).mask.sum())
    theirs, ours = in_turn(lambda: peer(plain, case), lambda: own(fused, case))
    cells = [row(case, "fp32", tokens, theirs, ours, tokens / theirs)]
    if not half:
        return cells
    plain_half, fused_half = in_bf16(case.model()), in_bf16(fuse_activations(case.model()))
    said = own(fused_half, case)
    with torch.no_grad():
        away = (response_logprobs(fused, said, 1.0)[0] - said.logprobs)[said.mask].abs()
    print(f"{case.name}: bf16 log-probabilities are {away.mean():.4f} nats off in the mean, {away.max():.3f} at most")
    theirs_half, ours_half = in_turn(lambda: peer(plain_half, case), lambda: own(fused_half, case))
    return [*cells, row(case, "bf16", int(said.mask.sum()), theirs_half, ours_half, tokens / theirs)]


def in_bf16(model: PreTrainedModel) -> PreTrainedModel:
    model.to(torch.bfloat16).set_attn_implementation("sdpa")
    return model


def row(case: Case, precision: str, tokens: int, theirs: float, ours: float, rate: float) -> str:
    """CPU-seconds of both sides; tokens/s of `generate` are those of fp32."""
    rates = [f"{rate:,.0f}", f"{tokens / ours:,.0f}", f"{tokens / ours / rate:.1f}×"]
    return line([case.name, precision, str(tokens), f"{theirs:.2f}", f"{ours:.2f}", *rates])


def main() -> None:
    cases = {
        "tiny": lambda: random_case("4 × 256, V = 2,000, 64 rows", 4, 256, 4, 2_000, 64, 64),
        "shipped": shipped_case,
        "medium": lambda: random_case("6 × 768, V = 50,257, 16 rows", 6, 768, 12, 50_257, 16, 53),
    }
    columns = (
        "model",
        "precision",
        "tokens",
        "generate, CPU-s",
        "own, CPU-s",
        "generate, tokens/s",
        "own, tokens/s",
        "gain",
    )
    threads = torch.get_num_threads()
    lines, multiplied = head(columns), precisions()  # which counts on one thread
    torch.set_num_threads(threads)
    for name in sys.argv[1:] or cases:
        lines += measure(cases[name](), half="bf16" in multiplied)
    write("sampling", sys.argv[1:], here(), [f"Threads: {threads}.", "", *lines])


if __name__ == "__main__":
    main()
