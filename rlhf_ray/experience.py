"""The nouns of the walk, in the order in which a batch meets them.

Axes: `B` sequences, `P` prompt tokens (left-padded), `R` response tokens (right-padded),
`K` rewards.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlhf_ray.batch import Batch


@dataclass(frozen=True)
class PromptBatch(Batch):
    """What is asked. `sample` numbers the rows of one iteration: it is the row's own part of its random seed.

    Rows of one `group` ask the same prompt: their responses can be held against each other.
    """

    tokens: Int[Tensor, "B P"]
    mask: Bool[Tensor, "B P"]
    sample: Int[Tensor, " B"]
    group: Int[Tensor, " B"]


@dataclass(frozen=True)
class Rollout(Batch):
    """What the sampler said, and how likely it thought each token was. `ended` is False where it ran out of tokens.

    `version` is that of the weights that spoke; -1 where none of this run did, as in a recording.
    """

    prompt: PromptBatch
    tokens: Int[Tensor, "B R"]
    mask: Bool[Tensor, "B R"]
    logprobs: Float[Tensor, "B R"]
    ended: Bool[Tensor, " B"]
    version: Int[Tensor, " B"]


@dataclass(frozen=True)
class ScoredRollout(Batch):
    """A rollout with the score of each response and the reference's view of each token.

    `parts` are the rewards that the score is the weighted sum of, one column each; `clipped` is True where that sum was
    larger than it may be.
    """

    rollout: Rollout
    score: Float[Tensor, " B"]
    parts: Float[Tensor, "B K"]
    clipped: Bool[Tensor, " B"]
    ref_logprobs: Float[Tensor, "B R"]


@dataclass(frozen=True)
class Estimates(Batch):
    """What the learner thought of a rollout before it learned from it."""

    logprobs: Float[Tensor, "B R"]


@dataclass(frozen=True)
class CriticEstimates(Estimates):
    """The same of a learner with a critic: what it expected to come before each token."""

    values: Float[Tensor, "B R"]


@dataclass(frozen=True)
class Experience(Batch):
    """A rollout with blame and credit for every token."""

    rollout: Rollout
    old: Estimates
    ref_logprobs: Float[Tensor, "B R"]
    advantages: Float[Tensor, "B R"]


@dataclass(frozen=True)
class CriticExperience(Experience):
    """The same with what really came, for a critic to learn from; `old` are a critic's estimates."""

    returns: Float[Tensor, "B R"]


Metrics = dict[str, float]
