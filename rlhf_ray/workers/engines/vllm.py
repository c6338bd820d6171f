"""vLLM in the sampler's process, for GPUs. It is installed by hand, since it names an older transformers than ours.

Written against vLLM 0.32, whose loader has read and reloaded our models on a CPU; it has NOT been run on a GPU yet. The
engine runs in this process, so that weights reach its worker without being serialised, and each sample has its own
seed. vLLM batches by what is there, so the same seed need not give the same bits.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.folder import resolve
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.weights import LocalWeights, arrived
from rlhf_ray.workers.engines.response import Response, as_rollout, asked
from rlhf_ray.workers.sampling import Sampling

WORKER = "rlhf_ray.workers.engines.vllm_worker.Reloading"


class Completion(Protocol):
    """What is read of vLLM's `CompletionOutput`. `logprobs` has a dict a token: of ids to what has a `logprob`."""

    token_ids: Sequence[int]
    logprobs: Any


class VLLM:
    def __init__(self, model: str, sampling: Sampling) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise BadInput(
                "sampling.engine=vllm: expected vLLM to be installed on the samplers' machines, found none; "
                'pip install "vllm==0.32.*", then pip install "transformers>=5.23,<6", or choose engine=own'
            )
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # read as vLLM is imported: its engine in this process
        from vllm import LLM

        self.sampling, self.version = sampling, -1
        self.eos = load_tokenizer(model).eos_token_id
        self.names, self.shapes = parameters_of(model)
        self.llm = LLM(
            model=resolve(model),
            dtype={"fp32": "float32", "bf16": "bfloat16"}[sampling.precision],
            max_model_len=sampling.tokens,
            max_num_seqs=sampling.rows,
            generation_config="vllm",  # and nothing that the model's folder would add to the distribution
            logprobs_mode="processed_logprobs",  # with the temperature, as the learner's
            worker_extension_cls=WORKER,
            trust_remote_code=False,
        )

    def load(self, weights: LocalWeights) -> None:
        tensors = list(zip(self.names, arrived(weights, self.shapes), strict=True))
        self.llm.collective_rpc("reload_from", args=(tensors,))
        self.llm.reset_prefix_cache()  # what was read with the old weights is no longer so
        self.version = weights.version

    def speak(self, prompts: PromptBatch, seeds: Sequence[int]) -> Rollout:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        outputs = self.llm.generate(
            [TokensPrompt(prompt_token_ids=tokens) for tokens in asked(prompts)],
            [SamplingParams(**how_to_draw(self.sampling, self.eos, seed)) for seed in seeds],
            use_tqdm=False,
        )
        said = [as_response(output.outputs[0]) for output in outputs]
        how = {"width": self.sampling.response_tokens, "eos": self.eos, "version": self.version}
        return as_rollout(prompts, said, **how)


def how_to_draw(sampling: Sampling, eos: int, seed: int) -> dict[str, Any]:
    """Arguments of vLLM's `SamplingParams`: the whole distribution, to `eos` and to no other token that may end."""
    return {
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "max_tokens": sampling.response_tokens,
        "seed": seed,
        "logprobs": 0,  # of the drawn token alone
        "ignore_eos": True,  # the model's own list of them; ours stops below
        "stop_token_ids": [eos],
        "detokenize": False,
    }


def as_response(completion: Completion) -> Response:
    """The tokens with each one's own log-probability among those that were returned for its place."""
    tokens = list(completion.token_ids)
    return Response(tokens, [at[token].logprob for token, at in zip(tokens, completion.logprobs, strict=True)])


def parameters_of(model: str) -> tuple[list[str], list[torch.Size]]:
    """Names and shapes in the order in which a learner packs them, without memory for any of them."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(resolve(model)))
    names, tensors = zip(*skeleton.named_parameters(), strict=True)
    return list(names), [tensor.shape for tensor in tensors]
