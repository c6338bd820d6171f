"""S8: who hangs up stops paying, over real sockets; tokens are counted in the engine itself."""

import asyncio
import random
import socket
import time
from collections.abc import Iterator

import pytest
import torch

from tests.serve.conftest import GENERATION, application
from tests.serve.listening import listening

from serve.artefact import artefact
from serve.generator import Generator
from serve.orders import Answer, Order
from serve.row import Ticket

TIMES = 50


@pytest.fixture
def port(generator, reward) -> Iterator[int]:
    with listening(application(generator, reward)) as url:
        yield int(url.rpartition(":")[2])


def test_who_hangs_up_at_any_moment_costs_no_further_token(generator: Generator, port: int, monkeypatch) -> None:
    let_go: list[tuple[int, float, Ticket]] = []
    end = generator._end

    def noted(ticket: Ticket) -> None:
        end(ticket)
        let_go.append((generator.engine.drawn, time.monotonic(), ticket))

    monkeypatch.setattr(generator, "_end", noted)
    chance, late, after = random.Random(0), [], []
    for time_of in range(TIMES):
        samples = 1 + time_of % 4
        body = f'{{"prompt": "the quick", "seed": {time_of}, "n": {samples}, "stream": true}}'
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            time.sleep(chance.uniform(0, 0.08))
        closed = time.monotonic()
        deadline = closed + 10
        while len(let_go) <= time_of or generator.engine.rows:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        drawn, when, _ = let_go[time_of]
        late.append(max(0.0, when - closed))
        after.append((generator.engine.drawn - drawn) / samples)
    print(f"{TIMES} hang-ups: heard within {max(late) * 1000:.0f} ms, then {max(after):g} more token a sample")
    assert max(after) <= 1
    assert generator.is_idle()


def test_a_loop_that_ends_takes_no_engine_along(policy_folder: str, monkeypatch) -> None:
    """As where a server is shut down while an answer is on its way, and another one begins in the same process."""
    generator = Generator(artefact("tuned", policy_folder), GENERATION)
    say = generator.engine.slots.say

    def slowly(tokens: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return say(tokens)

    monkeypatch.setattr(generator.engine.slots, "say", slowly)
    order, loop = Order("the quick", seed=next(seeds_of_long_answers(generator))), asyncio.new_event_loop()
    pieces = generator.stream(order)
    loop.run_until_complete(anext(pieces))
    loop.close()
    while generator.engine.rows:
        time.sleep(0.01)
    assert isinstance(asyncio.run(generator.complete(order)), Answer)
    generator.close()


def seeds_of_long_answers(generator: Generator) -> Iterator[int]:
    """Of those that are still on their way when the first piece has been heard."""
    for seed in range(100):
        answer = asyncio.run(generator.complete(Order("the quick", seed=seed)))
        assert isinstance(answer, Answer)
        if len(answer.said[0].tokens) > 10:
            yield seed
