"""The server under load: its engine's own speed, the same through HTTP, one at a time, streamed, and overloaded.

All in one run on one machine: first the engine alone in this process, then the server of `jobs.serve` with the shipped
base, and an asyncio client in this process. Requests differ in their seeds; tokens are counted by the server.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiohttp
import numpy as np
import torch
import yaml
from tables import head, here, line, write

from serve.engine import Engine, Generation
from serve.orders import Order

ROOT = Path(__file__).parent.parent
PROMPT = "Provide a Root Cause Analysis for the recent API latency spike.\n"
CLIENTS, TOKENS, REQUESTS = 32, 64, 320
OVERLOAD_S = 60.0
COLUMNS = ("what", "requests", "tokens/s", "p50 ms", "p99 ms", "429", "p99 ms of a 429")


@dataclass
class Load:
    """What came of some requests: the seconds of each that was answered, and of each that was sent away."""

    wall_s: float
    tokens: int
    answered: list[float]
    refused: list[float]

    @property
    def speed(self) -> float:
        return self.tokens / self.wall_s

    def cells(self, what: str) -> list[str]:
        times = [f"{1000 * np.percentile(self.answered, share):.1f}" for share in (50, 99)]
        away = f"{1000 * np.percentile(self.refused, 99):.0f}" if self.refused else "–"
        return [what, str(len(self.answered)), f"{self.speed:.0f}", *times, str(len(self.refused)), away]


def engine_alone(generation: Generation, clients: int, requests: int, tokens: int) -> Load:
    """The engine with as many orders under way as there are clients, in this process and thread count."""
    torch.set_num_threads(1)
    engine, prompt = Engine("shipped", generation), []
    prompt = engine.tokenizer(PROMPT)["input_ids"]
    over, begun, said, times = threading.Event(), {}, 0, []
    left = iter(range(requests))

    def begin() -> None:
        seed = next(left, None)
        if seed is not None:
            begun[engine.submit(Order("", seed, most_tokens=tokens), prompt, receive)] = monotonic()

    def receive(ticket: Any, answer: Any) -> None:
        nonlocal said
        said += len(answer[0].tokens)
        times.append(monotonic() - begun.pop(ticket))
        if len(times) == requests:
            over.set()
        begin()

    start = monotonic()
    for _ in range(clients):
        begin()
    over.wait()
    load = Load(monotonic() - start, said, times, [])
    engine.close()
    return load


async def http(url: str, clients: int, more: Callable[[], bool], ask: dict[str, Any]) -> Load:
    """So many clients, each with its next request as soon as it has its answer, while there are `more`."""
    answered, refused, tokens, seeds = [], [], 0, iter(range(10**9))

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        while more():
            begin = monotonic()
            async with session.post(f"{url}/v1/completions", json=ask | {"seed": next(seeds)}) as answer:
                body = await answer.text()
            (answered if answer.status == 200 else refused).append(monotonic() - begin)
            if answer.status == 200:
                last = body.split("\n\n")[-3].removeprefix("data: ") if ask.get("stream") else body
                tokens += json.loads(last)["usage"]["completion_tokens"]
            else:
                if answer.status != 429:
                    raise RuntimeError(f"{answer.status}: {body}")
                await asyncio.sleep(float(answer.headers["Retry-After"]))

    start = monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    return Load(monotonic() - start, tokens, answered, refused)


def so_many(requests: int) -> Callable[[], bool]:
    left = iter(range(requests))
    return lambda: next(left, None) is not None


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = monotonic() + seconds
    return lambda: monotonic() < until


def measure(url: str) -> list[list[str]]:
    def load(clients: int, more: Callable[[], bool], **ask: Any) -> Load:
        return asyncio.run(http(url, clients, more, {"prompt": PROMPT, "max_tokens": TOKENS} | ask))

    load(CLIENTS, so_many(2 * CLIENTS))  # the first requests open connections and warm the model
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return [
        load(CLIENTS, so_many(REQUESTS)).cells(f"HTTP, {CLIENTS} clients"),
        load(CLIENTS, so_many(REQUESTS), **stream).cells(f"HTTP, {CLIENTS} clients, streamed"),
        load(1, so_many(20)).cells("HTTP, one at a time"),
        load(1, so_many(100), max_tokens=1).cells("HTTP, one at a time, 1 token"),
        load(4 * CLIENTS, for_seconds(OVERLOAD_S)).cells(f"HTTP, {4 * CLIENTS} clients, {OVERLOAD_S:.0f} s"),
    ]


def served(folder: Path, generation: Generation) -> list[list[str]]:
    """Start the server, measure, and end it."""
    config = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config["http_options"]["port"] = probe.getsockname()[1]
    (application,) = config["applications"]
    application["args"] |= {"run": "none", "models": {"tuned": "shipped"}, "generation": generation.model_dump()}
    application["deployments"] = [each for each in application["deployments"] if each["name"] in ("doors", "tuned")]
    (folder / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "jobs.serve", str(folder / "serve.yaml")]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        for said in server.stderr or []:
            if said.startswith("serving on"):
                break
        else:
            raise RuntimeError(f"the server ended with {server.wait()}")
        threading.Thread(target=lambda: list(server.stderr or []), daemon=True).start()
        sleep(2)
        return measure(f"http://127.0.0.1:{config['http_options']['port']}")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(120)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    generation = Generation(slots=CLIENTS, prompt_tokens=80, response_tokens=80, queue=CLIENTS)
    rows = [
        engine_alone(generation, CLIENTS, REQUESTS, TOKENS).cells(f"engine alone, {CLIENTS} orders"),
        engine_alone(generation, 1, 20, TOKENS).cells("engine alone, one at a time"),
        engine_alone(generation, 1, 100, 1).cells("engine alone, one at a time, 1 token"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows += served(Path(folder), generation)
    write("serving", sys.argv[1:], here(), [*head(COLUMNS), *map(line, rows)])


if __name__ == "__main__":
    main()
