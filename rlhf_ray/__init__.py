"""Reinforcement learning from human feedback, whole, on Ray.

What stands in `__all__` is what a script may rely on, with `jobs.pipeline.run`, which takes a RunConfig through the
whole loop. A name is imported when it is first asked for: who only wants the Client does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlhf_ray.alarm import Tripped
    from rlhf_ray.client import Client, ServerError
    from rlhf_ray.config import BadInput, load
    from rlhf_ray.experience import Experience, PromptBatch, Rollout, ScoredRollout
    from rlhf_ray.feedback.intake import read_feedback
    from rlhf_ray.models.loading import load_causal, load_tokenizer
    from rlhf_ray.models.scalar import Scalar
    from rlhf_ray.runs import RunConfig
    from rlhf_ray.text import decode_responses, encode_prompts
    from rlhf_ray.training.reward import raw_scores
    from rlhf_ray.workers.learner import Learner
    from rlhf_ray.workers.sampler import Sampler
    from rlhf_ray.workers.sampling import Sampling
    from rlhf_ray.workers.scorer import Scorer

_HOMES = {
    "rlhf_ray.alarm": ("Tripped",),
    "rlhf_ray.client": ("Client", "ServerError"),
    "rlhf_ray.config": ("BadInput", "load"),
    "rlhf_ray.experience": ("Experience", "PromptBatch", "Rollout", "ScoredRollout"),
    "rlhf_ray.feedback.intake": ("read_feedback",),
    "rlhf_ray.models.loading": ("load_causal", "load_tokenizer"),
    "rlhf_ray.models.scalar": ("Scalar",),
    "rlhf_ray.runs": ("RunConfig",),
    "rlhf_ray.text": ("decode_responses", "encode_prompts"),
    "rlhf_ray.training.reward": ("raw_scores",),
    "rlhf_ray.workers.learner": ("Learner",),
    "rlhf_ray.workers.sampler": ("Sampler",),
    "rlhf_ray.workers.sampling": ("Sampling",),
    "rlhf_ray.workers.scorer": ("Scorer",),
}
__all__ = [
    "BadInput",
    "Client",
    "Experience",
    "Learner",
    "PromptBatch",
    "Rollout",
    "RunConfig",
    "Sampler",
    "Sampling",
    "Scalar",
    "ScoredRollout",
    "Scorer",
    "ServerError",
    "Tripped",
    "decode_responses",
    "encode_prompts",
    "load",
    "load_causal",
    "load_tokenizer",
    "raw_scores",
    "read_feedback",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
