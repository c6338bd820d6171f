"""Whoever decodes: a rollout is the policy's own, token for token as likely as the learner finds it."""

from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.batch import concat
from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch
from rlhf_ray.models.loading import load_causal
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.text import encode_prompts
from rlhf_ray.weights import LocalWeights, pack
from rlhf_ray.workers.engines.response import Response, as_rollout
from rlhf_ray.workers.engines.vllm import as_response, how_to_draw, parameters_of
from rlhf_ray.workers.sampler import Sampler
from rlhf_ray.workers.sampling import Sampling

TEXTS = ["the quick", "brown fox", "jumps", "over the lazy", "dog", "pack my box"]
HERE = ["own", "transformers"]  # vLLM needs a GPU
NEAR = {"fp32": 1e-4, "bf16": 0.5}  # nats, of a model whose weights are ten times the usual ones


def sampling_of(engine: str, **more: object) -> Sampling:
    sizes = {"temperature": 0.9, "prompt_tokens": 16, "response_tokens": 8, "rows": 4}
    return Sampling.model_validate(sizes | {"engine": engine} | more)


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerBase) -> PromptBatch:
    return encode_prompts(tokenizer, TEXTS, 16)


@pytest.fixture
def weights(policy_folder: str) -> LocalWeights:
    """Of another model than the one in the folder, so that who forgets to load them is found out."""
    policy = load_causal(policy_folder)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        policy.transformer.ln_f.weight.mul_(1.3)
        policy.transformer.wpe.weight.normal_(std=0.2)
    return pack(policy.parameters(), version=4)


@pytest.mark.parametrize("engine", HERE)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_token_is_as_likely_as_the_learner_finds_it(
    policy_folder: str, prompts: PromptBatch, weights: LocalWeights, engine: str, precision: str
) -> None:
    rollout = Sampler(policy_folder, sampling_of(engine, precision=precision), run_seed=11).generate(
        prompts, weights, 1
    )
    learner = load_causal(policy_folder)
    torch.nn.utils.vector_to_parameters(torch.tensor(weights.buffer), learner.parameters())
    with torch.no_grad():
        expected = response_logprobs(learner, rollout, 0.9)[0]
    torch.testing.assert_close(rollout.logprobs, expected, atol=NEAR[precision], rtol=0)
    assert rollout.version.tolist() == [4] * len(TEXTS)


@pytest.mark.parametrize("engine", HERE)
def test_a_response_ends_with_end_of_text_or_runs_out_of_tokens(
    policy_folder: str, prompts: PromptBatch, weights: LocalWeights, engine: str
) -> None:
    sampler = Sampler(policy_folder, sampling_of(engine, response_tokens=30), run_seed=11)
    rollout = concat([sampler.generate(prompts, weights, seed) for seed in range(4)])
    assert torch.equal(rollout.prompt.tokens, prompts.tokens.repeat(4, 1))
    assert rollout.ended.any()
    for row in range(len(rollout)):
        said = rollout.tokens[row][rollout.mask[row]].tolist()
        assert (said[-1] == 0) == bool(rollout.ended[row])
        assert 0 not in said[:-1]
        assert len(said) == 30 or rollout.ended[row]


@pytest.mark.parametrize("engine", HERE)
def test_two_seeds_give_two_rollouts(
    policy_folder: str, prompts: PromptBatch, weights: LocalWeights, engine: str
) -> None:
    sampler = Sampler(policy_folder, sampling_of(engine), run_seed=11)
    one, other = (sampler.generate(prompts, weights, seed) for seed in (1, 2))
    assert not torch.equal(one.tokens, other.tokens)


def test_in_bf16_too_the_same_seed_gives_the_same_bits(
    policy_folder: str, prompts: PromptBatch, weights: LocalWeights
) -> None:
    samplers = [Sampler(policy_folder, sampling_of("own", precision="bf16"), run_seed=11) for _ in range(2)]
    one, other = (sampler.generate(prompts, weights, 1) for sampler in samplers)
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.logprobs, other.logprobs)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_its_engine_is_refused_with_what_to_install(policy_folder: str) -> None:
    with pytest.raises(BadInput, match=r'sampling.engine=vllm: .* pip install "vllm==0.32.\*"'):
        Sampler(policy_folder, sampling_of("vllm"), run_seed=11)


def test_an_engine_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="engine"):
        sampling_of("llama.cpp")


@dataclass
class Logprob:
    logprob: float


@dataclass
class Completion:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]


def test_of_what_vllm_returns_each_token_has_its_own_logprob() -> None:
    best_among = {7: Logprob(-0.1), 5: Logprob(-2.0)}
    assert as_response(Completion([5, 0], [best_among, {0: Logprob(-0.5)}])) == Response([5, 0], [-2.0, -0.5])


def test_vllm_draws_from_the_whole_distribution_and_stops_at_our_end_of_text() -> None:
    how = how_to_draw(sampling_of("vllm"), eos=3, seed=17)
    assert (how["temperature"], how["top_p"], how["top_k"], how["max_tokens"], how["seed"]) == (0.9, 1.0, 0, 8, 17)
    assert how["ignore_eos"]
    assert how["stop_token_ids"] == [3]


def test_vllm_is_given_the_parameters_in_the_order_in_which_they_are_packed(policy_folder: str) -> None:
    named = list(load_causal(policy_folder).named_parameters())
    names, shapes = parameters_of(policy_folder)
    assert list(zip(names, shapes, strict=True)) == [(name, parameter.shape) for name, parameter in named]


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        ([Response([5], [-1.0])], "expected 2 responses, got 1"),
        ([Response([5], [-1.0]), Response([], [])], "for sample 1, got 0 and 0"),
        ([Response([5], [-1.0]), Response([5] * 4, [-1.0] * 4)], "expected 1 to 3 tokens .* got 4"),
        ([Response([5], [-1.0]), Response([5, 6], [-1.0])], "got 2 and 1"),
    ],
)
def test_what_is_no_response_is_an_error_that_names_the_sample(
    prompts: PromptBatch, responses: list[Response], said: str
) -> None:
    with pytest.raises(RuntimeError, match=said):
        as_rollout(prompts[:2], responses, width=3, eos=0, version=1)
