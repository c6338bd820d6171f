"""Answers in OpenAI's and vLLM's shapes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from serve.artefact import Artefact
from serve.keeping import Given
from serve.orders import Said
from serve.verdicts import Verdict


@dataclass(frozen=True)
class Header:
    """What every chunk of an answer repeats. `arm` is why this model answers: None where the request named it."""

    id: str
    model: str
    version: str
    seed: int
    chat: bool
    arm: str | None = None

    def body(self, choices: list[dict[str, Any]], *, chunk: bool = False) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": int(time()),
            "model": self.model,
            "system_fingerprint": self.version,
            "seed": self.seed,
            "choices": choices,
        }


def choice(given: Given, index: int, *, chat: bool) -> dict[str, Any]:
    """One sample, whole. With a verdict also what the reward model said of it."""
    said, verdict = given.said, given.verdict
    likely = (chat_logprobs if chat else text_logprobs)(said) if given.order.alternatives is not None else None
    text = {"message": {"role": "assistant", "content": said.text}} if chat else {"text": said.text}
    judged = {"score": verdict.score, "probability": verdict.probability} if verdict else {}
    end = {"finish_reason": said.finish, "completion_id": given.name}
    return {"index": index, **text, "logprobs": likely, **end, **judged}


def piece(given: Given, more: Said, *, chat: bool) -> dict[str, Any]:
    """Some more of a sample than was given by now. Its last piece has its name."""
    likely = None
    if given.order.alternatives is not None:
        likely = chat_logprobs(more) if chat else text_logprobs(more, len(given.said.text))
    role = {} if given.said.tokens else {"role": "assistant"}
    text = {"delta": {**role, "content": more.text}} if chat else {"text": more.text}
    end = {"finish_reason": more.finish} | ({"completion_id": given.name} if more.finish else {})
    return {"index": more.sample, **text, "logprobs": likely, **end}


def text_logprobs(said: Said, offset: int = 0) -> dict[str, Any]:
    names, offsets = _own(said), []
    for name in names:
        offsets.append(offset)
        offset += len(name)
    return {
        "tokens": names,
        "token_logprobs": said.logprobs[: len(names)],
        "top_logprobs": [dict(near) for near in said.alternatives[: len(names)]],
        "text_offset": offsets,
    }


def chat_logprobs(said: Said) -> dict[str, Any]:
    def named(name: str, likely: float) -> dict[str, Any]:
        return {"token": name, "logprob": likely, "bytes": list(name.encode())}

    places = zip(_own(said), said.logprobs, said.alternatives, strict=False)
    return {
        "content": [
            {**named(name, likely), "top_logprobs": [named(*other) for other in near]} for name, likely, near in places
        ],
        "refusal": None,
    }


def usage(prompt_tokens: int, said_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": said_tokens,
        "total_tokens": prompt_tokens + said_tokens,
    }


def event(body: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def card(model: Artefact, kind: str) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "rlhf_ray",
        "kind": kind,
        "version": model.version,
        "digest": model.digest,
    }


def judged(verdicts: Sequence[Verdict], model: Artefact, data: list[dict[str, Any]]) -> dict[str, Any]:
    """A list of what the reward model said, as vLLM's."""
    return {
        "object": "list",
        "model": model.name,
        "system_fingerprint": model.version,
        "data": data,
        "usage": usage(sum(verdict.tokens for verdict in verdicts), 0),
    }


def _own(said: Said) -> list[str]:
    """The names of the tokens that are text."""
    return said.spelled[:-1] if said.ended else said.spelled
