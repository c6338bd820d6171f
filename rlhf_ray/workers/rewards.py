"""Rewards: what a response is worth, said by the run's reward model, by a function of one's own, or by a server.

A function and a server hear texts: `prompts` and `completions`, one of each a response, and answer one number each.
"""

import importlib
import json
import re
import time
from collections.abc import Callable, Sequence, Sized
from numbers import Real
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from urllib3.exceptions import HTTPError

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import BadInput, Config
from rlhf_ray.experience import Rollout
from rlhf_ray.models.scalar import Scalar, response_scores
from rlhf_ray.text import decode_prompts, decode_responses

MODEL = "model"  # the config's name for the run's own reward model
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LARGEST_ANSWER = 1024 * 1024  # bytes; one number a response is far less
PLAIN = {"Accept-Encoding": "identity"}  # what is received is what was sent, so its size is bounded
FIRST_PAUSE = 0.5  # seconds before the second try; each later pause is twice as long
AGAIN = {429, 500, 502, 503, 504}  # a later try may succeed

Score = Callable[[Rollout], Float[Tensor, "B"]]
Texts = Callable[[list[str], list[str]], Sequence[float]]


class Reward(Config):
    """One of the rewards whose weighted sum is the score."""

    source: str = Field(
        MODEL, description="model: the run's reward model; module:function; or the http(s) URL of a server."
    )
    weight: float = Field(1.0, allow_inf_nan=False, description="What it counts in the sum.")
    timeout_s: float = Field(10.0, gt=0, description="Longest wait for one answer of a server.")
    tries: int = Field(4, ge=1, description="How often a server that fails is asked, each time after a longer pause.")

    @field_validator("source")
    @classmethod
    def _is_known(cls, source: str) -> str:
        if source != MODEL and not FUNCTION.fullmatch(source) and not _is_url(source):
            raise ValueError(f"expected model, module:function or an http(s) URL, got {source!r}")
        return source

    @property
    def is_function(self) -> bool:
        return FUNCTION.fullmatch(self.source) is not None


class RewardFailed(RuntimeError):
    """A reward gave no answer."""


def check_functions(rewards: dict[str, Reward]) -> None:
    """Raises BadInput, at the door, where a function cannot be found."""
    for name, reward in rewards.items():
        if reward.is_function:
            try:
                load_function(reward.source)
            except (ImportError, AttributeError, TypeError) as error:
                raise BadInput(
                    f"scoring.rewards.{name}.source: expected a function that can be imported, got {reward.source!r} "
                    f"({error})"
                ) from None


def load_function(source: str) -> Texts:
    """The function that `module:function` names. Raises ImportError, AttributeError or TypeError."""
    module, function = source.split(":")
    found = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{function} is no function but {type(found).__name__}")
    return found


def build(reward: Reward, model: str, tokenizer: PreTrainedTokenizerBase, device: str) -> Score:
    """What scores the responses of a rollout as the reward says; `model` is the folder of the run's reward model."""
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

    def __call__(self, rollout: Rollout) -> Float[Tensor, "B"]:
        return response_scores(self.scalar, rollout, self.eos)


class TextScore:
    """The score of a rollout by what hears texts. Raises Tripped, naming the sample, where there is no number."""

    def __init__(self, source: str, ask: Texts, tokenizer: PreTrainedTokenizerBase) -> None:
        self.source = source
        self.ask = ask
        self.tokenizer = tokenizer

    def __call__(self, rollout: Rollout) -> Float[Tensor, "B"]:
        prompts = decode_prompts(self.tokenizer, rollout.prompt)
        completions = decode_responses(self.tokenizer, rollout)
        samples = rollout.prompt.sample.tolist()
        try:
            answer = self.ask(prompts, completions)
        except RewardFailed as failure:
            raise self._tripped(f"{failure}; asked for samples {samples[0]} to {samples[-1]}") from failure
        scores = answer.tolist() if isinstance(answer, (np.ndarray, Tensor)) else answer
        if not isinstance(scores, (list, tuple)) or len(scores) != len(samples):
            raise self._tripped(f"expected a list of {len(samples)} numbers, one a response, got {_short(answer)}")
        for sample, score in zip(samples, scores, strict=True):
            if isinstance(score, bool) or not isinstance(score, Real):
                raise self._tripped(f"expected a number for sample {sample}, got {_short(score)}")
        return torch.tensor([float(score) for score in scores], device=rollout.tokens.device)

    def _tripped(self, what: str) -> Tripped:
        return Tripped(
            Alarm(
                "reward",
                f"{self.source}: {what}",
                "a reward that is down, overloaded, or answers in another form",
                "look at the reward itself, and start the run again: it goes on from its newest checkpoint",
            )
        )


class Server:
    """A reward behind a URL: POST `{"prompts": […], "completions": […]}`, answered by `{"scores": […]}`.

    Every wait is bounded, and what may succeed later is tried again. No redirect is followed: the texts go where the
    config says and nowhere else.
    """

    def __init__(self, url: str, timeout_s: float, tries: int) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.tries = tries

    def __call__(self, prompts: list[str], completions: list[str]) -> list[float]:
        for attempt in range(self.tries):
            try:
                return self._post({"prompts": prompts, "completions": completions})
            except (requests.RequestException, HTTPError, _TryAgain) as error:
                failure = error
            if attempt < self.tries - 1:
                time.sleep(FIRST_PAUSE * 2**attempt)
        raise RewardFailed(f"no answer in {self.tries} tries ({_first_line(failure)})") from failure

    def _post(self, texts: dict[str, list[str]]) -> list[Any]:
        deadline = time.monotonic() + self.timeout_s
        with requests.post(
            self.url, json=texts, headers=PLAIN, timeout=self.timeout_s, allow_redirects=False, stream=True
        ) as response:
            if response.status_code in AGAIN:
                raise _TryAgain(f"status {response.status_code}")
            if response.status_code != 200:
                raise RewardFailed(f"expected status 200, got {response.status_code} (redirects are not followed)")
            body = bytearray()
            while chunk := response.raw.read1(LARGEST_ANSWER):  # what has come; a read of all would wait for a slow one
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise RewardFailed(f"expected an answer of at most {LARGEST_ANSWER} bytes, got more")
                if time.monotonic() > deadline:
                    raise _TryAgain(f"no whole answer within {self.timeout_s:g} s")
        return _scores(bytes(body))


class _TryAgain(RuntimeError):
    """What may go better next time."""


def _scores(body: bytes) -> list[Any]:
    try:
        answer = json.loads(body, parse_int=float)  # an integer may have more digits than a float can hold
    except (ValueError, RecursionError):
        raise RewardFailed(f"expected JSON, got {body[:60]!r}") from None
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise RewardFailed('expected {"scores": […]}, got another form')
    return scores


def _is_url(source: str) -> bool:
    parts = urlsplit(source)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _short(value: object) -> str:
    """What was answered, in a few words."""
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, Sized) else repr(value)[:60]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
