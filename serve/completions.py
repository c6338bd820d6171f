"""The doors of the generators: a body in OpenAI's form becomes orders, and what is said becomes an answer."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rlhf_ray.feedback.completion_ids import CompletionIds
from rlhf_ray.seeds import derive

from serve import answers
from serve.answers import Header
from serve.artefact import REWARD, Artefact
from serve.errors import Refused, granted
from serve.events import Events
from serve.keeping import Given, Keeper
from serve.orders import Answer, Load, Order, Refusal, Said
from serve.schemas import ChatBody, CompletionBody
from serve.split import arm_of
from serve.verdicts import Pair, Verdict
from serve.versions import Versions


class Speaker(Protocol):
    """A generator, wherever it runs."""

    async def complete(self, order: Order) -> Answer | Refusal: ...

    def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]: ...

    async def load(self) -> Load | Refusal: ...


class Judge(Protocol):
    """A reward model, wherever it runs, in the version that is asked."""

    async def judge(self, model: Artefact, pairs: list[Pair]) -> list[Verdict | Refusal]: ...


class Completions:
    """`speakers` by name, the default first. Without a `judge` there is no best_of, without a `keeper` nothing is kept.

    A request may ask for `most_samples`: more would never find room together. `versions` says what is served: a request
    ends with the version that it began with. Those that name no model are shared out by `split`, or else the default's.
    `key` is always the client's idempotency key, or empty. Everything raises Refused.
    """

    def __init__(
        self,
        speakers: Mapping[str, Speaker],
        judge: Judge | None,
        ids: CompletionIds,
        keeper: Keeper | None,
        *,
        versions: Versions,
        split: Mapping[str, float],
        most_samples: int,
    ) -> None:
        self.speakers, self.judge, self.ids, self.keeper = speakers, judge, ids, keeper
        self.versions, self.split, self.most_samples = versions, split, most_samples

    async def answer(self, body: CompletionBody | ChatBody, person: str, key: str) -> dict[str, Any]:
        """The whole answer."""
        mark, seed = identity(body.seed, person, key, body.model_dump_json() if key else "")
        arm, orders, chat = self.arm(body.model, person), self.orders(body, seed), isinstance(body, ChatBody)
        said = await self.said([(arm, order) for order in orders])
        given = [
            each
            for place, (order, answer) in enumerate(zip(orders, said, strict=True))
            for each in await self._best(self.given(arm, order, answer, f"{mark}/{place}"), body.n or 1)
        ]
        await self.keep(given)
        header = Header(given[0].name, arm, said[0].version, seed, chat)
        choices = [answers.choice(each, index, chat=chat) for index, each in enumerate(given)]
        tokens = sum(len(sample.tokens) for each in said for sample in each.said)
        return header.body(choices) | {"usage": answers.usage(sum(each.prompt_tokens for each in said), tokens)}

    async def begin(self, body: CompletionBody | ChatBody, person: str, key: str) -> AsyncIterator[str]:
        """The answer as server-sent events. Nothing is refused after the first of them."""
        mark, seed = identity(body.seed, person, key, body.model_dump_json() if key else "")
        arm, (order,) = self.arm(body.model, person), self.orders(body, seed)
        pieces = self.speakers[arm].stream(replace(order, model=self.versions.now()[arm]))
        first = granted(await anext(pieces))
        none = replace(first, said=[Said(sample) for sample in range(order.samples)])
        header = Header("", arm, first.version, seed, isinstance(body, ChatBody))
        counted = bool(body.stream_options and body.stream_options.include_usage)
        return Events(header, self.given(arm, order, none, f"{mark}/0"), self.keep, counted=counted).of(first, pieces)

    def arm(self, model: str | None, person: str) -> str:
        """Who answers this person."""
        name = model or (arm_of(person, self.split) if self.split else next(iter(self.speakers)))
        if name not in self.speakers:
            raise Refused(Refusal(404, f"expected one of the models {', '.join(self.speakers)}", "model"))
        return name

    def orders(self, body: CompletionBody | ChatBody, seed: int) -> list[Order]:
        """What is asked, if it can be answered at all."""
        orders = orders_of(body, seed)
        if sum(order.samples for order in orders) > self.most_samples:
            raise Refused(Refusal(400, f"expected at most {self.most_samples} samples of all prompts, got more", "n"))
        if any(order.samples > (body.n or 1) for order in orders):
            self._ranker()
        return orders

    async def said(self, asked: Sequence[tuple[str, Order]]) -> list[Answer]:
        """To each order by its arm. Where one is refused, nobody says the others to their end."""
        models = self.versions.now()

        async def one(arm: str, order: Order) -> Answer:
            return granted(await self.speakers[arm].complete(replace(order, model=models[arm])))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(arm, order)) for arm, order in asked]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    def given(self, arm: str, order: Order, answer: Answer, mark: str) -> list[Given]:
        """What was said, under names that follow from the mark, the model and the place among the samples."""
        return [
            Given(self.ids.name(mark, arm, answer.digest, said.sample), arm, order, answer, said)
            for said in answer.said
        ]

    async def keep(self, given: Sequence[Given]) -> None:
        if self.keeper:
            await self.keeper.keep(given)

    async def _best(self, given: list[Given], count: int) -> list[Given]:
        """The best by the reward model, the best first; all of them where no more were drawn than are asked."""
        if len(given) == count:
            return given
        pairs = [Pair(each.order.asked, each.said.text) for each in given]
        verdicts = await self._ranker().judge(self.versions.now()[REWARD], pairs)
        ranked = sorted(zip(map(granted, verdicts), given, strict=True), key=lambda each: -each[0].score)
        return [replace(each, verdict=verdict) for verdict, each in ranked[:count]]

    def _ranker(self) -> Judge:
        if not self.judge:
            raise Refused(Refusal(400, "no reward model is served that could rank", "best_of"))
        return self.judge


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


def identity(seed: int | None, person: str, key: str, body: str) -> tuple[str, int]:
    """An answer's mark and seed. With an idempotency key both follow from it, who asks, and what is asked."""
    if not key:
        return secrets.token_hex(16), secrets.randbits(63) if seed is None else seed
    mark = hashlib.blake2b(f"{person}\n{key}\n{body}".encode(), digest_size=16).hexdigest()
    return mark, derive(mark, "seed") if seed is None else seed
