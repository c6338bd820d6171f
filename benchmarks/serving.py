"""The server under load: its engine's own speed, the same through HTTP, one at a time, streamed, and overloaded.

All in one run on one machine: the server of `jobs.serve` with the shipped base, without a ledger and then with one, an
asyncio client in this process, and the engine alone, in this process, too. Engine and server take turns, A B A B, since
a machine's speed changes from minute to minute; the last column is the median over the rounds, with the range. Requests
differ in their seeds; tokens are counted by the server. The overload is an open loop: requests come at twice the speed
at which 32 clients were answered, at random moments, whatever becomes of those before them; none is sent again.
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiohttp
import numpy as np
import psutil
import torch
import yaml
from tables import head, here, line, write

from serve.engine import Engine
from serve.generation import Generation
from serve.orders import Order

ROOT = Path(__file__).parent.parent
PROMPT = "Provide a Root Cause Analysis for the recent API latency spike.\n"
CLIENTS, TOKENS, REQUESTS, ROUNDS = 32, 64, 320, 9
GENERATION = Generation(slots=CLIENTS, prompt_tokens=80, response_tokens=80, queue=CLIENTS // 2)
ASK = {"prompt": PROMPT, "max_tokens": TOKENS}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
WARM_S, OVERLOAD_S = 5.0, 60.0
Tables = tuple[list[list[str]], list[list[str]]]  # of times, and of memory
SIZES = ("process", "MiB before the overload", "after")
COLUMNS = ("what", "requests", "tokens/s", "p50 ms", "p99 ms", "429", "p99 ms of a 429", "of the engine's tokens/s")


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

    def cells(self, what: str, shares: str = "") -> list[str]:
        times = [f"{1000 * np.percentile(self.answered, share):.1f}" for share in (50, 99)]
        away = f"{1000 * np.percentile(self.refused, 99):.0f}" if self.refused else "–"
        return [what, str(len(self.answered)), f"{self.speed:.0f}", *times, str(len(self.refused)), away, shares]

    def __add__(self, other: "Load") -> "Load":
        answered, refused = self.answered + other.answered, self.refused + other.refused
        return Load(self.wall_s + other.wall_s, self.tokens + other.tokens, answered, refused)


def engine_alone(clients: int, requests: int, tokens: int) -> Load:
    """The engine with as many orders under way as there are clients, in this process and thread count."""
    torch.set_num_threads(1)
    engine = Engine("shipped", GENERATION)
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


@dataclass
class Client:
    """Asks the server, and notes what came of it."""

    url: str
    ask: dict[str, Any]

    def __post_init__(self) -> None:
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.tokens, self.seeds = 0, iter(range(10**9))

    async def closed(self, clients: int, requests: int) -> Load:
        """So many clients, each with its next request as soon as it has its answer."""
        left = iter(range(requests))

        async def one(session: aiohttp.ClientSession) -> None:
            while next(left, None) is not None:
                await self._one(session)

        return await self._measured(lambda session: [one(session) for _ in range(clients)])

    async def open(self, a_second: float, seconds: float) -> Load:
        """So many requests a second at random moments, whatever becomes of those before."""
        chance = random.Random(0)

        async def later(session: aiohttp.ClientSession, wait: float) -> None:
            await asyncio.sleep(wait)
            await self._one(session)

        waits = sorted(chance.uniform(0, seconds) for _ in range(round(a_second * seconds)))
        return await self._measured(lambda session: [later(session, wait) for wait in waits])

    async def _measured(self, work: Callable[[aiohttp.ClientSession], list[Any]]) -> Load:
        begin = monotonic()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*work(session))
        return Load(monotonic() - begin, self.tokens, self.answered, self.refused)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        begin = monotonic()
        async with session.post(f"{self.url}/v1/completions", json=self.ask | {"seed": next(self.seeds)}) as answer:
            body = await answer.text()
        (self.answered if answer.status == 200 else self.refused).append(monotonic() - begin)
        if answer.status == 200:
            last = body.split("\n\n")[-3].removeprefix("data: ") if self.ask.get("stream") else body
            self.tokens += json.loads(last)["usage"]["completion_tokens"]
        elif answer.status != 429:
            raise RuntimeError(f"{answer.status}: {body}")


def closed(url: str, clients: int, requests: int, **ask: Any) -> Load:
    return asyncio.run(Client(url, ASK | ask).closed(clients, requests))


def pinged(url: str, requests: int) -> Load:
    """HTTP alone: a door behind which nobody is asked anything."""

    async def ping() -> list[float]:
        times = []
        async with aiohttp.ClientSession() as session:
            for _ in range(requests):
                begin = monotonic()
                async with session.get(f"{url}/healthz") as answer:
                    await answer.read()
                times.append(monotonic() - begin)
        return times

    times = asyncio.run(ping())
    return Load(sum(times), 0, times, [])


def in_turn(url: str, what: str) -> tuple[list[list[str]], Load]:
    """The engine alone and the server, some rounds of each; their rows, and the server's load."""
    closed(url, CLIENTS, REQUESTS)  # the first requests open connections and warm the model
    alone, asked = [], []
    for _ in range(ROUNDS):
        alone.append(engine_alone(CLIENTS, REQUESTS, TOKENS))
        asked.append(closed(url, CLIENTS, REQUESTS))
    shares = [each.speed / most.speed for each, most in zip(asked, alone, strict=True)]
    told = f"{np.median(shares):.0%} ({min(shares):.0%}–{max(shares):.0%})"
    engine, server = reduce(add, alone), reduce(add, asked)
    return [engine.cells(f"engine alone, {CLIENTS} orders"), server.cells(f"{what}, {CLIENTS} clients", told)], server


def without_ledger(url: str, server: psutil.Process) -> Tables:
    rows = [
        *in_turn(url, "HTTP")[0],
        engine_alone(1, 20, TOKENS).cells("engine alone, one at a time"),
        engine_alone(1, 100, 1).cells("engine alone, one at a time, 1 token"),
        pinged(url, 200).cells("HTTP alone (/healthz), one at a time"),
        closed(url, 1, 200, max_tokens=1).cells("HTTP, one at a time, 1 token"),
    ]
    return rows, []


def with_ledger(url: str, server: psutil.Process) -> Tables:
    rows, most = in_turn(url, "HTTP and ledger")
    rows += [
        closed(url, CLIENTS, REQUESTS, **STREAM).cells(f"HTTP and ledger, {CLIENTS} clients, streamed"),
        closed(url, 1, 20).cells("HTTP and ledger, one at a time"),
        closed(url, 1, 200, max_tokens=1).cells("HTTP and ledger, one at a time, 1 token"),
    ]
    speed = 2 * len(most.answered) / most.wall_s
    asyncio.run(Client(url, ASK).open(speed, WARM_S))
    before = memory(server)
    over = asyncio.run(Client(url, ASK).open(speed, OVERLOAD_S))
    after = memory(server)
    rows.append(over.cells(f"HTTP and ledger, {speed:.0f} requests/s for {OVERLOAD_S:.0f} s"))
    return rows, [[name, *(f"{each.get(name, 0) / 2**20:.1f}" for each in (before, after))] for name in sorted(before)]


def memory(server: psutil.Process) -> dict[str, int]:
    """Resident bytes of the processes that serve, by name."""
    sizes = {}
    for process in server.children(recursive=True):
        words = " ".join(process.cmdline())
        title = words.split(".")[0].strip()  # Ray appends the method that runs
        if "serve.apart_main" in words:
            title = "ray::a generator"
        if process.name() == "haproxy" or title.startswith(("ray::Serve", "ray::Proxy", "ray::HAProxy", "ray::a ")):
            sizes[title.removeprefix("ray::") if title.startswith("ray::") else "haproxy"] = process.memory_info().rss
    return sizes


def served(folder: Path, ledger: str, work: Callable[[str, psutil.Process], Tables]) -> Tables:
    """Start the server, measure, and end it."""
    config = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config["http_options"]["port"] = probe.getsockname()[1]
    (application,) = config["applications"]
    application["args"] |= {"run": "none", "models": {"tuned": "shipped"}, "generation": GENERATION.model_dump()}
    application["args"] |= {"ledger": ledger}
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
        return work(f"http://127.0.0.1:{config['http_options']['port']}", psutil.Process(server.pid))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(120)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        without, _ = served(Path(folder), "none", without_ledger)
        kept, sizes = served(Path(folder), str(Path(folder) / "ledger"), with_ledger)
    tables = [*head(COLUMNS), *map(line, without + kept), "", *head(SIZES), *map(line, sizes)]
    write("serving", sys.argv[1:], here(), tables)


if __name__ == "__main__":
    main()
