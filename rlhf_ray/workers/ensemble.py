"""An ensemble: several reward models of one search, which PPO finds harder to fool than any one of them."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.scalar import Scalar, response_scores

MEMBERS = "members"  # the folder, in the reward model's, of its second member and those after it


def member_folders(model: str, members: int) -> list[str]:
    """The folders of the reward model and of its further members. Raises BadInput where there are too few."""
    folders = [Path(model), *(Path(model, MEMBERS, str(number)) for number in range(2, members + 1))]
    there = [str(folder) for folder in folders if folder.is_dir()]
    if len(there) < len(folders):
        raise BadInput(
            f"members: expected at most {len(there)}, the models in {model} (search.keep says how many a search "
            f"leaves), got {members}"
        )
    return there


class EnsembleScore:
    """The mean of the members' normalised scores, less `pessimism` times their standard deviation.

    Where the members disagree, one of them is wrong: what only some of them like is worth less (arXiv:2310.02743).
    """

    def __init__(self, scalars: list[Scalar], pessimism: float, eos: int) -> None:
        self.scalars = scalars
        self.pessimism = pessimism
        self.eos = eos

    def __call__(self, rollout: Rollout) -> Float[Tensor, " B"]:
        scores = torch.stack([response_scores(scalar, rollout, self.eos) for scalar in self.scalars])
        return pessimistic(scores, self.pessimism)


def pessimistic(scores: Float[Tensor, "M B"], pessimism: float) -> Float[Tensor, " B"]:
    """Mean less `pessimism` standard deviations of the members' scores of each response."""
    return scores.mean(0) - pessimism * scores.std(0, correction=0)
