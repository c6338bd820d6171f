"""A replica that dies under a call: another one says what it would have said. Fake handles, and a real generator."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError

from serve.generator import Generator, joined_by_sample
from serve.heard import Heard
from serve.orders import Answer, Order, Refusal, Said
from serve.remote import BUSY, GONE, TRIES, Remote

ORDER = Order("the quick", seed=4, samples=2, most_tokens=16, alternatives=1)


class Dying:
    """A deployment's handle, each of whose replicas dies after so many answers; the last of them lives."""

    def __init__(self, generator: Generator, lives: list[int], death: Exception | None = None) -> None:
        self.generator, self.lives = generator, lives
        self.death = death or ActorDiedError()
        self.complete = self.judge = self.stream = self

    def options(self, stream: bool) -> Any:
        return _Streams(self)

    async def remote(self, order: Any, *more: Any) -> Answer | Refusal:
        if self.lives:
            self.lives.pop(0)
            raise self.death
        return await self.generator.complete(order)


class _Streams:
    def __init__(self, handle: Dying) -> None:
        self.handle, self.stream = handle, self

    async def remote(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        left = self.handle.lives.pop(0) if self.handle.lives else None
        async for answer in self.handle.generator.stream(order):
            if left == 0:
                raise self.handle.death
            left = left and left - 1
            yield answer


async def whole(stream: AsyncIterator[Answer | Refusal]) -> list[Said]:
    return [said async for answer in stream if isinstance(answer, Answer) for said in answer.said]


@pytest.mark.parametrize("lives", [[0], [1], [3, 7], [2, 2, 9]])
def test_a_stream_goes_on_where_it_broke_off(generator: Generator, lives: list[int]) -> None:
    async def both() -> tuple[list[Said], list[Said]]:
        broken = await whole(Remote(Dying(generator, list(lives))).stream(ORDER))  # type: ignore[arg-type]
        return broken, (await generator.complete(ORDER)).said  # type: ignore[union-attr]

    broken, expected = asyncio.run(both())
    assert sorted(joined_by_sample(broken), key=lambda said: said.sample) == expected


def test_a_call_whose_replica_died_is_answered_by_another(generator: Generator) -> None:
    remote = Remote(Dying(generator, [0] * (TRIES - 1), ActorUnavailableError("", b"a" * 16)))  # type: ignore[arg-type]
    assert asyncio.run(remote.complete(ORDER)) == asyncio.run(generator.complete(ORDER))


def test_where_all_die_or_all_are_busy_it_is_said_once(generator: Generator) -> None:
    async def answers(handle: Dying) -> tuple:
        remote = Remote(handle)  # type: ignore[arg-type]
        streamed = [answer async for answer in remote.stream(ORDER)]
        return streamed, await remote.complete(ORDER), await remote.judge(None, [])  # type: ignore[arg-type]

    dead, busy = Dying(generator, [0] * 99), Dying(generator, [0] * 99, BackPressureError(1, 1))
    assert asyncio.run(answers(dead))[:2] == ([GONE], GONE)
    assert asyncio.run(answers(busy))[:2] == ([BUSY], BUSY)


def test_pieces_cut_elsewhere_are_heard_once() -> None:
    heard = Heard()
    first = Said(0, "ab", [1, 2, 3], [-1.0, -2.0, -3.0])  # of three tokens, the third of which is held back
    assert heard.fresh(first) == first
    heard.begin_again()
    assert heard.fresh(Said(0, "a", [1], [-1.0])) is None
    rest = Said(0, "bcd", [2, 3, 4], [-2.0, -3.0, -4.0], finish="stop", ended=True)
    assert heard.fresh(rest) == replace(rest, text="cd", tokens=[4], logprobs=[-4.0])
    heard.begin_again()
    assert heard.fresh(Said(0, "abcd", [1, 2, 3, 4], [-1.0, -2.0, -3.0, -4.0], finish="stop", ended=True)) is None


class Full:
    """A handle of a deployment that has room for so many samples, and counts how often it is asked."""

    def __init__(self, room: int) -> None:
        self.room, self.asked, self.let_go = room, 0, asyncio.Event()
        self.complete = self

    def options(self, stream: bool) -> Any:
        return self

    async def remote(self, order: Order) -> Any:
        self.asked += 1
        if order.samples > self.room:
            return BUSY
        self.room -= order.samples
        await self.let_go.wait()
        self.room += order.samples
        return "said"


def test_what_was_refused_is_not_asked_again_until_there_is_room_or_a_second_is_over(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("serve.fullness.monotonic", lambda: now)

    async def crowd() -> None:
        nonlocal now
        handle = Full(room=5)
        remote = Remote(handle)  # type: ignore[arg-type]
        begun = [asyncio.ensure_future(remote.complete(ORDER)) for _ in range(2)]  # of two samples each
        await asyncio.sleep(0)
        assert await remote.complete(ORDER) == BUSY, "the generator says so"
        assert await remote.complete(ORDER) == BUSY
        assert handle.asked == 3, "the second time nobody is asked"
        now += 2
        assert await remote.complete(ORDER) == BUSY
        assert handle.asked == 4, "after a second the generator is asked again"
        handle.let_go.set()
        assert await asyncio.gather(*begun) == ["said", "said"]
        assert await remote.complete(ORDER) == "said", "there is room at once when something was answered"

    asyncio.run(crowd())


def test_an_order_that_is_too_large_keeps_no_small_one_out() -> None:
    async def crowd() -> None:
        handle = Full(room=5)
        remote = Remote(handle)  # type: ignore[arg-type]
        begun = [asyncio.ensure_future(remote.complete(replace(ORDER, samples=1)))]
        await asyncio.sleep(0)
        assert await remote.complete(replace(ORDER, samples=8)) == BUSY
        begun += [asyncio.ensure_future(remote.complete(replace(ORDER, samples=1))) for _ in range(4)]
        await asyncio.sleep(0)
        handle.let_go.set()
        assert await asyncio.gather(*begun) == ["said"] * 5

    asyncio.run(crowd())
