"""A server whose processes are signalled by the ids that it tells, and clients that ask it all the time."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rlhf_ray.client import Client, ServerError
from tests.serve.served import ROOT, free_port, served

CHAOS_S = "RLHF_RAY_CHAOS_S"
# Whoever shares the machine, as CI does, cannot say whether it was the server that was late.
in_seconds = pytest.mark.skipif(
    CHAOS_S not in os.environ, reason=f"holds a server to seconds: {CHAOS_S}=60 where nothing else is at work"
)


def small(args: dict[str, Any], replicas: dict[str, int]) -> dict[str, Any]:
    """As configs/serve.yaml, but small; `replicas` are fixed for the deployments that it names."""
    config = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    config["http_options"]["port"] = free_port()
    (application,) = config["applications"]
    application["args"] |= {
        "generation": {"slots": 8, "prompt_tokens": 32, "response_tokens": 32, "queue": 8},
        "judging": {"most_tokens": 64, "rows": 8},
        "ledger": "none",
    } | args
    for deployment in application["deployments"]:
        if deployment["name"] in replicas:
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = replicas[deployment["name"]]
    return config


@dataclass
class Server:
    """A server of ours, and the processes that it says are its own: nothing else is ever killed."""

    url: str
    process: subprocess.Popen
    key: str = ""

    def client(self, tries: int = 1) -> Client:
        return Client(self.url, self.key, tries=tries)

    def processes(self, role: str, name: str = "") -> list[dict[str, Any]]:
        """Those with this role that live, and name if it is given."""
        return [each for each in self.client(9).processes() if each["role"] == role and name in ("", each["name"])]

    def signal(self, process: dict[str, Any], how: signal.Signals) -> None:
        """Send a signal to a process that the server reported and that descends from it."""
        descendants = {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}
        assert process["pid"] in descendants, f"{process} is none of ours"
        os.kill(process["pid"], how)

    def fronts(self) -> list[dict[str, Any]]:
        """Those through which clients come: HAProxy, a child of the proxy that was reported, or else that itself."""
        proxies = self.processes("proxy")
        below = [child for each in proxies for child in psutil.Process(each["pid"]).children(recursive=True)]
        return [{"pid": child.pid} for child in below if child.name() == "haproxy"] or proxies

    def wait_for(self, role: str, name: str, count: int, deadline_s: float = 60) -> float:
        """Seconds until at least so many of them live."""
        begin = time.monotonic()
        while len(self.processes(role, name)) < count:
            assert time.monotonic() - begin < deadline_s, self.processes(role)
            time.sleep(0.1)
        return time.monotonic() - begin


@contextmanager
def running(folder: Path, config: dict[str, Any], key: str = "") -> Iterator[Server]:
    """The server, once it answers."""
    with served(folder, config) as process:
        yield Server(f"http://127.0.0.1:{config['http_options']['port']}", process, key)


@dataclass(frozen=True)
class Asked:
    """One request: when it began (monotonic), how long it took, its status (0: no answer), and what came."""

    begin: float
    seconds: float
    status: int
    client: int
    seed: int = 0
    version: str = ""
    text: str = ""


@dataclass
class Crowd:
    """So many clients, each of which asks again as soon as it is answered."""

    server: Server
    clients: int = 8
    tries: int = 1
    tokens: int = 16
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Crowd":
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, number: int) -> None:
        client, chance = self.server.client(self.tries), random.Random(number)
        while not self.over.is_set():
            begin, seed = time.monotonic(), chance.randrange(20)
            try:
                body = client.complete("the quick", model="tuned", seed=seed, max_tokens=self.tokens)
                said = 200, number, seed, body["system_fingerprint"], body["choices"][0]["text"]
            except ServerError as error:
                said = error.status, number, seed, "", str(error)
            except Exception as error:
                said = 0, number, seed, "", repr(error)
            self.asked.append(Asked(begin, time.monotonic() - begin, *said))

    @property
    def failed(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.status != 200]

    def p99(self) -> float:
        """Seconds."""
        return sorted(asked.seconds for asked in self.asked)[int(0.99 * len(self.asked))]

    def check_texts(self) -> None:
        """The same seed and version say the same text, whoever died meanwhile."""
        texts: dict[tuple[str, int], str] = {}
        for asked in self.asked:
            if asked.status == 200:
                assert texts.setdefault((asked.version, asked.seed), asked.text) == asked.text

    def told(self) -> str:
        share, longest = 1 - len(self.failed) / len(self.asked), max(asked.seconds for asked in self.asked)
        failed = f"{len(self.failed)} failed ({share:.2%} well)"
        return f"{len(self.asked)} requests, {failed}, p99 {self.p99():.3f} s, longest {longest:.3f} s"
