"""Who is answered by which model, where several share the requests that name none: a person always by the same one."""

from collections.abc import Mapping

from rlhf_ray.config import BadInput
from rlhf_ray.seeds import derive


def arm_of(person: str, split: Mapping[str, float]) -> str:
    """The person's arm. It follows from the name alone; other shares move as few people as can be."""
    place = derive("split", person) / 2**63
    for arm, share in split.items():
        place -= share
        if place < 0:
            return arm
    return arm  # shares add up to 1 but for rounding


def check_split(split: Mapping[str, float], arms: Mapping[str, object]) -> None:
    """Raises BadInput where an arm is not served, or the shares are no shares of one whole."""
    for arm in split:
        if arm not in arms:
            raise BadInput(f"split.{arm}: expected one of {', '.join(arms)}, got a model that is not served")
    if split and abs(sum(split.values()) - 1) > 1e-6:
        raise BadInput(f"split: expected shares that add up to 1, got {sum(split.values()):g}")
