"""Rewards: what a response is worth, said by the run's reward model, by a function of one's own, or by a server.

A function and a server hear texts: `prompts` and `completions`, one of each a response, and answer one number each.
"""

import importlib
import math
import re
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import BadInput, Config
from rlhf_ray.durable import file_digest
from rlhf_ray.experience import Rollout
from rlhf_ray.models.scalar import Scalar, response_scores
from rlhf_ray.text import decode_prompts, decode_responses
from rlhf_ray.workers.ensemble import EnsembleScore, member_folders
from rlhf_ray.workers.reward_server import RewardFailed, Server

MODEL = "model"  # the config's name for the run's own reward model
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

Score = Callable[[Rollout], Float[Tensor, " B"]]
Texts = Callable[[list[str], list[str]], Sequence[float]]


class Reward(Config):
    """One of the rewards whose weighted sum is the score."""

    source: str = Field(
        MODEL, description="model: the run's reward model; module:function; or the http(s) URL of a server."
    )
    weight: float = Field(1.0, allow_inf_nan=False, description="What it counts in the sum.")
    members: int = Field(1, ge=1, description="So many of a search's best models judge together; 1: the best alone.")
    pessimism: float = Field(
        1.0, ge=0, description="Standard deviations of the members' scores that are taken off their mean."
    )
    timeout_s: float = Field(10.0, gt=0, description="Longest wait for one answer of a server.")
    tries: int = Field(4, ge=1, description="How often a server that fails is asked, each time after a longer pause.")

    @field_validator("source")
    @classmethod
    def _is_known(cls, source: str) -> str:
        if source != MODEL and not FUNCTION.fullmatch(source) and not _is_url(source):
            raise ValueError(f"expected model, module:function or an http(s) URL without a password, got {source!r}")
        return source

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if self.members > 1 and self.source != MODEL:
            raise ValueError(f"members: expected 1 with source={self.source}, got {self.members}")
        return self

    @property
    def is_function(self) -> bool:
        return FUNCTION.fullmatch(self.source) is not None


def check_functions(rewards: dict[str, Reward]) -> None:
    """Raises BadInput, at the door, where a function cannot be found."""
    for name, reward in rewards.items():
        if reward.is_function:
            try:
                load_function(reward.source)
            except (Exception, SystemExit) as error:  # a module may do anything when it is imported
                raise BadInput(
                    f"scoring.rewards.{name}.source: expected a function that can be imported, got {reward.source!r} "
                    f"({_said(error)})"
                ) from error


def check_members(rewards: dict[str, Reward], model: str) -> None:
    """Raises BadInput where a reward asks for more members than the reward model's folder holds."""
    for name, reward in rewards.items():
        try:
            member_folders(model, reward.members)
        except BadInput as mistake:
            raise BadInput(f"scoring.rewards.{name}.{mistake}") from None


def fingerprints(rewards: dict[str, Reward]) -> dict[str, str]:
    """The digest of the module of each function, by the function's name: another text may be another reward."""
    modules = {r.source: importlib.import_module(r.source.split(":")[0]) for r in rewards.values() if r.is_function}
    return {source: file_digest(Path(module.__file__)) for source, module in modules.items() if module.__file__}


def load_function(source: str) -> Texts:
    """The function that `module:function` names. Raises what the import raises, AttributeError or TypeError."""
    module, function = source.split(":")
    found = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{function} is no function but {type(found).__name__}")
    if isinstance(found, type):
        raise TypeError(f"{function} is no function but a class")
    return found


def build(reward: Reward, model: str, tokenizer: PreTrainedTokenizerBase, device: str) -> Score:
    """What scores the responses of a rollout as the reward says; `model` is the folder of the run's reward model."""
    if reward.members > 1:
        scalars = [Scalar.load(folder).to(device) for folder in member_folders(model, reward.members)]
        return EnsembleScore(scalars, reward.pessimism, tokenizer.eos_token_id)
    if reward.source == MODEL:
        return ModelScore(Scalar.load(model).to(device), tokenizer.eos_token_id)
    if reward.is_function:
        return TextScore(reward.source, load_function(reward.source), tokenizer)
    return TextScore(reward.source, Server(reward.source, reward.timeout_s, reward.tries), tokenizer)


class ModelScore:
    """The score of a rollout by a reward model."""

    def __init__(self, scalar: Scalar, eos: int) -> None:
        self.scalar = scalar
        self.eos = eos

    def __call__(self, rollout: Rollout) -> Float[Tensor, " B"]:
        return response_scores(self.scalar, rollout, self.eos)


class TextScore:
    """The score of a rollout by what hears texts. Raises Tripped, naming the sample, where there is no number."""

    def __init__(self, source: str, ask: Texts, tokenizer: PreTrainedTokenizerBase) -> None:
        self.source = source
        self.ask = ask
        self.tokenizer = tokenizer

    def __call__(self, rollout: Rollout) -> Float[Tensor, " B"]:
        prompts = decode_prompts(self.tokenizer, rollout.prompt)
        completions = decode_responses(self.tokenizer, rollout)
        samples = rollout.prompt.sample.tolist()
        try:
            answer = self.ask(prompts, completions)
        except (Exception, SystemExit) as failure:  # whatever somebody else's function may raise
            what = str(failure) if isinstance(failure, RewardFailed) else f"raised {_said(failure)}"
            raise self._tripped(f"{what}; asked for samples {samples[0]} to {samples[-1]}") from failure
        scores = answer.tolist() if isinstance(answer, (np.ndarray, Tensor)) else answer
        if not isinstance(scores, (list, tuple)) or len(scores) != len(samples):
            raise self._tripped(f"expected a list of {len(samples)} numbers, one a response, got {_short(answer)}")
        for sample, score in zip(samples, scores, strict=True):
            if isinstance(score, bool) or not isinstance(score, Real):
                raise self._tripped(f"expected a number for sample {sample}, got {_short(score)}")
        return torch.tensor([_number(score) for score in scores], device=rollout.tokens.device)

    def _tripped(self, what: str) -> Tripped:
        return Tripped(
            Alarm(
                "reward",
                f"{self.source}: {what}",
                "a function with a fault, or a server that is down, overloaded or answers in another form",
                "mend the reward, and start the run again: where only a server was mended, it goes on from its newest "
                "checkpoint",
            )
        )


def _is_url(source: str) -> bool:
    """Whether it is an address without a password, which would end up in every config and message."""
    try:
        parts = urlsplit(source)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:  # such as a port that is no number
        return False


def _number(score: Any) -> float:
    try:
        return float(score)
    except OverflowError:  # an integer of hundreds of digits: no finite number, and said to be none
        return math.inf


def _short(value: object) -> str:
    """What was answered, in a few words."""
    return (
        f"{type(value).__name__} of {len(value)}" if isinstance(value, (str, list, tuple, dict)) else repr(value)[:60]
    )


def _said(error: BaseException) -> str:
    """What was raised, and where: the innermost line of it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message} in {Path(last.filename).name}, line {last.lineno}"
