"""Clients that ask a server all the time, and what they heard."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from urllib3.exceptions import HTTPError

from rlhf_ray.client import Client, ServerError


@dataclass(frozen=True)
class Heard:
    """One turn: when it began (monotonic), how long it took, its status (0: no answer), and what came."""

    begin: float
    seconds: float
    status: int
    client: int
    seed: int = 0
    version: str = ""
    text: str = ""


@dataclass
class Crowd:
    """So many clients, each of which asks again as soon as it is answered. They may outlive the server."""

    url: str
    clients: int = 8
    tries: int = 1
    tokens: int = 16
    heard: list[Heard] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Crowd":
        self.threads = [threading.Thread(target=self._live, args=(number,)) for number in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Returns when everybody has gone."""
        self.over.set()
        for thread in self.threads:
            thread.join()

    def turn(self, client: Client, chance: random.Random) -> Mapping[str, Any]:
        """What a client does again and again; what it heard."""
        seed = chance.randrange(20)
        body = client.complete("the quick", model="tuned", seed=seed, max_tokens=self.tokens)
        return {"seed": seed, "version": body["system_fingerprint"], "text": body["choices"][0]["text"]}

    def _live(self, number: int) -> None:
        client, chance = Client(self.url, tries=self.tries), random.Random(number)
        while not self.over.is_set():
            begin = time.monotonic()
            try:
                status, what = 200, self.turn(client, chance)
            except ServerError as error:
                status, what = error.status, {"text": str(error)}
            except HTTPError as error:  # nobody there
                status, what = 0, {"text": type(error).__name__}
            self.heard.append(Heard(begin, time.monotonic() - begin, status, number, **what))

    @property
    def failed(self) -> list[Heard]:
        return [heard for heard in self.heard if heard.status != 200]

    def p99(self) -> float:
        """Seconds."""
        return sorted(heard.seconds for heard in self.heard)[int(0.99 * len(self.heard))]

    def check_texts(self) -> None:
        """The same seed and version say the same text, whoever died meanwhile."""
        texts: dict[tuple[str, int], str] = {}
        for heard in self.heard:
            if heard.status == 200:
                assert texts.setdefault((heard.version, heard.seed), heard.text) == heard.text

    def told(self) -> str:
        share, longest = 1 - len(self.failed) / len(self.heard), max(heard.seconds for heard in self.heard)
        failed = f"{len(self.failed)} failed ({share:.2%} well)"
        return f"{len(self.heard)} turns, {failed}, p99 {self.p99():.3f} s, longest {longest:.3f} s"
