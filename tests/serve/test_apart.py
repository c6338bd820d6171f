"""A generator in a process of its own: it says what it would say here, and its end is noticed."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from rlhf_ray.config import BadInput
from tests.serve.conftest import GENERATION

from serve.apart import Apart
from serve.artefact import artefact
from serve.generator import Generator, joined_by_sample
from serve.orders import Answer, Order, Refusal
from serve.versions import Versions


def served(folder: str) -> Versions:
    return Versions({"tuned": artefact("tuned", folder)})


ORDER = Order("the quick", seed=5, samples=2, temperature=1.0)


@pytest.fixture(scope="module")
def apart(policy_folder: str) -> Iterator[Apart]:
    apart = Apart("tuned", served(policy_folder), GENERATION, 1)
    yield apart
    apart.close()


def test_it_says_what_it_would_say_here_whole_and_in_pieces(apart: Apart, generator: Generator) -> None:
    async def pieces() -> list[Answer | Refusal]:
        return [piece async for piece in apart.stream(ORDER)]

    async def many() -> list[Answer | Refusal]:
        return await asyncio.gather(*(apart.complete(replace(ORDER, seed=seed)) for seed in range(4)))

    here = [asyncio.run(generator.complete(replace(ORDER, seed=seed))) for seed in range(4)]
    assert asyncio.run(many()) == here
    (whole,) = [asyncio.run(generator.complete(ORDER))]
    assert isinstance(whole, Answer)
    said = joined_by_sample([each for piece in asyncio.run(pieces()) for each in piece.said])
    assert sorted(said, key=lambda each: each.sample) == whole.said
    assert not apart.calls


def test_a_refusal_comes_back_as_it_is(apart: Apart, generator: Generator) -> None:
    for order in (replace(ORDER, prompt="the quick " * 40), replace(ORDER, most_tokens=1000)):
        told = asyncio.run(apart.complete(order))
        assert isinstance(told, Refusal)
        assert told == asyncio.run(generator.complete(order))


@pytest.mark.parametrize("streams", [False, True])
def test_who_no_longer_waits_stops_the_engine(apart: Apart, streams: bool) -> None:
    order = Order("the quick", seed=1)

    async def hang_up() -> None:
        if streams:
            pieces = apart.stream(order)
            await anext(pieces)
            await pieces.aclose()
            return
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await apart.complete(order)

    async def drawn() -> int:
        before = (await apart.load()).drawn
        await hang_up()
        while (load := await apart.load()).taken or load.waiting:
            await asyncio.sleep(0.001)
        return load.drawn - before

    drawn_for_whom_left = asyncio.run(drawn())
    whole = asyncio.run(apart.complete(order))
    assert isinstance(whole, Answer)
    assert drawn_for_whom_left < len(whole.said[0].tokens)


def test_a_model_that_cannot_be_loaded_is_said_here(policy_folder: str) -> None:
    with pytest.raises(BadInput, match="expected prompt_tokens \\+ response_tokens of at most"):
        Apart("tuned", served(policy_folder), GENERATION.model_copy(update={"response_tokens": 5000}), 1)


@pytest.mark.slow
def test_its_death_is_told_to_who_waits_and_to_who_asks_how_it_is(policy_folder: str) -> None:
    deaths: list[str] = []
    apart = Apart("tuned", served(policy_folder), GENERATION, 1, on_death=lambda: deaths.append("tuned"))

    async def die() -> None:
        waiting = asyncio.gather(*(apart.complete(ORDER) for _ in range(3)), return_exceptions=True)
        os.kill(apart.process.pid, signal.SIGSTOP)  # so that nobody is answered before
        await asyncio.sleep(0)
        os.kill(apart.process.pid, signal.SIGKILL)
        assert {str(error) for error in await waiting} == {"tuned: its process has ended"}
        for asked in (apart.check_health, apart.load):
            with pytest.raises(RuntimeError, match="tuned: its process has ended"):
                await asked()
        with pytest.raises(RuntimeError, match="tuned: its process has ended"):
            await anext(apart.stream(ORDER))

    try:
        asyncio.run(die())
        assert deaths == ["tuned"]
        assert not apart.calls
    finally:
        apart.close()


def test_one_that_stands_still_is_not_well(apart: Apart) -> None:
    asyncio.run(apart.check_health())
    os.kill(apart.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RuntimeError, match="tuned: its process says nothing"):
            asyncio.run(apart.check_health())
    finally:
        os.kill(apart.process.pid, signal.SIGCONT)
    asyncio.run(apart.check_health())


@pytest.mark.slow
def test_its_process_ends_with_the_one_that_asked_for_it(policy_folder: str) -> None:
    """However that ends: here a child of this process, which is killed."""
    program = (
        "import sys, time; from serve.apart import Apart; from serve.generation import Generation; "
        "from tests.serve.test_apart import served; "
        f"apart = Apart('tuned', served(sys.argv[1]), Generation(**{GENERATION.model_dump()!r}), 1); "
        "print(apart.process.pid, flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, policy_folder], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    inner = psutil.Process(int(holder.stdout.readline()))
    holder.kill()
    holder.wait()
    holder.stdout.close()
    begin = time.monotonic()
    while inner.is_running() and inner.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - begin < 10
        time.sleep(0.02)


def test_who_only_holds_it_imports_no_model() -> None:
    program = "import sys, serve.generator_replica; print(*{'torch', 'transformers'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert not told.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["well", "stopped"])
def test_to_close_it_takes_no_time(policy_folder: str, state: str) -> None:
    apart = Apart("tuned", served(policy_folder), GENERATION, 1, on_death=lambda: pytest.fail("it was closed"))
    if state == "stopped":
        os.kill(apart.process.pid, signal.SIGSTOP)
    begin = time.monotonic()
    apart.close()
    assert time.monotonic() - begin < 2
    assert apart.process.returncode == (0 if state == "well" else -signal.SIGKILL)


@pytest.mark.slow
def test_one_that_takes_no_calls_is_given_up(policy_folder: str) -> None:
    died = threading.Event()
    apart = Apart("tuned", served(policy_folder), GENERATION, 1, on_death=died.set)
    os.kill(apart.process.pid, signal.SIGSTOP)

    async def flood() -> list[Any]:
        return await asyncio.gather(
            *(apart.complete(replace(ORDER, prompt="x" * 60_000)) for _ in range(50)), return_exceptions=True
        )

    try:
        begin = time.monotonic()
        assert {str(error) for error in asyncio.run(flood())} == {"tuned: its process has ended"}
        assert time.monotonic() - begin < 10
        assert died.wait(10)
    finally:
        apart.close()
