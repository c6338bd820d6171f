"""The doors of the generators: a body in OpenAI's form becomes orders, and what is said becomes an answer."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from rlhf_ray.seeds import derive

from serve import answers, errors
from serve.answers import Header
from serve.orders import Answer, Order, Refusal, Said
from serve.reward import Pair, Verdict
from serve.schemas import ChatBody, CompletionBody, Drawing


class Speaker(Protocol):
    """A generator, wherever it runs."""

    async def complete(self, order: Order) -> Answer | Refusal: ...

    def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]: ...


class Judge(Protocol):
    """A reward model, wherever it runs."""

    async def judge(self, pairs: list[Pair]) -> list[Verdict | Refusal]: ...


class Completions:
    """`speakers` by name, the default first; without a `judge` there is no best_of."""

    def __init__(self, speakers: Mapping[str, Speaker], judge: Judge | None) -> None:
        self.speakers, self.judge = speakers, judge

    async def answer(self, body: CompletionBody | ChatBody, key: str) -> dict[str, Any]:
        """The whole answer. `key` is the client's idempotency key, or empty. Raises Refused."""
        name, speaker = self._speaker(body)
        header_id, seed = identity(body.seed, key, body.model_dump_json() if key else "")
        orders, count, chat = orders_of(body, seed), body.n or 1, isinstance(body, ChatBody)
        said = [granted(each) for each in await asyncio.gather(*(speaker.complete(order) for order in orders))]
        choices: list[dict[str, Any]] = []
        for order, each in zip(orders, said, strict=True):
            for sample, verdict in await self._best(order, each.said, count):
                shown = order.alternatives is not None
                choices.append(answers.choice(sample, len(choices), chat=chat, logprobs=shown, verdict=verdict))
        header = Header(header_id, name, said[0].version, seed, chat)
        tokens = sum(len(sample.tokens) for each in said for sample in each.said)
        return header.body(choices) | {"usage": answers.usage(sum(each.prompt_tokens for each in said), tokens)}

    async def begin(self, body: CompletionBody | ChatBody, key: str) -> AsyncIterator[str]:
        """The answer as server-sent events. Raises Refused before the first of them."""
        name, speaker = self._speaker(body)
        header_id, seed = identity(body.seed, key, body.model_dump_json() if key else "")
        (order,) = orders_of(body, seed)
        pieces = speaker.stream(order)
        first = granted(await anext(pieces))
        header = Header(header_id, name, first.version, seed, isinstance(body, ChatBody))
        counted = bool(body.stream_options and body.stream_options.include_usage)
        return _events(header, order, first, pieces, counted)

    async def _best(self, order: Order, said: list[Said], count: int) -> list[tuple[Said, Verdict | None]]:
        """The best samples by the reward model, the best first; all of them where no more were drawn than are asked."""
        if len(said) == count:
            return [(sample, None) for sample in said]
        if not self.judge:
            raise errors.Refused(Refusal(400, "no reward model is served that could rank", "best_of"))
        verdicts = await self.judge.judge([Pair(str(order.prompt), sample.text) for sample in said])
        ranked = sorted(zip(said, map(granted, verdicts), strict=True), key=lambda each: -each[1].score)
        return list(ranked[:count])

    def _speaker(self, body: Drawing) -> tuple[str, Speaker]:
        name = body.model or next(iter(self.speakers))
        if name not in self.speakers:
            raise errors.Refused(Refusal(404, f"expected one of the models {', '.join(self.speakers)}", "model"))
        return name, self.speakers[name]


async def _events(
    header: Header, order: Order, first: Answer, pieces: AsyncIterator[Answer | Refusal], counted: bool
) -> AsyncIterator[str]:
    offsets, tokens, logprobs = [-1] * order.samples, 0, order.alternatives is not None
    answer: Answer | Refusal | None = first
    while answer:
        if isinstance(answer, Refusal):
            yield answers.event(errors.said(answer))
            return
        choices = []
        for said in answer.said:
            offset, tokens = offsets[said.sample], tokens + len(said.tokens)
            fresh, begin = offset < 0, max(offset, 0)
            choices.append(answers.piece(said, chat=header.chat, logprobs=logprobs, first=fresh, offset=begin))
            offsets[said.sample] = begin + len(said.text)
        yield answers.event(header.body(choices, chunk=True))
        answer = await anext(pieces, None)
    if counted:
        yield answers.event(header.body([], chunk=True) | {"usage": answers.usage(first.prompt_tokens, tokens)})
    yield "data: [DONE]\n\n"


def orders_of(body: CompletionBody | ChatBody, seed: int) -> list[Order]:
    """An order a prompt; those after the first have seeds of their own."""
    if isinstance(body, ChatBody):
        prompts: list[Any] = [[message.model_dump(include={"role", "content"}) for message in body.messages]]
        most, alternatives, samples = body.max_completion_tokens or body.max_tokens, body.alternatives, body.n or 1
    else:
        prompts, most, alternatives = list(body.prompts), body.max_tokens, body.logprobs
        samples = body.best_of or body.n or 1
    return [
        Order(
            prompt,
            derive(seed, place) if place else seed,
            samples,
            most,
            1.0 if body.temperature is None else body.temperature,
            1.0 if body.top_p is None else body.top_p,
            body.stops,
            alternatives,
        )
        for place, prompt in enumerate(prompts)
    ]


def identity(seed: int | None, key: str, body: str) -> tuple[str, int]:
    """An answer's id and seed. With an idempotency key both follow from it and from what is asked."""
    if not key:
        return f"cmpl-{secrets.token_hex(16)}", secrets.randbits(63) if seed is None else seed
    mark = hashlib.blake2b(f"{key}\n{body}".encode(), digest_size=16).hexdigest()
    return f"cmpl-{mark}", derive(mark, "seed") if seed is None else seed


def granted(answer: Any) -> Any:
    """What was asked for. Raises Refused where it was not given."""
    if isinstance(answer, Refusal):
        raise errors.Refused(answer)
    return answer
