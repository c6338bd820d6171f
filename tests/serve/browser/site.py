"""The real doors and a real ledger under uvicorn, over speakers that say what is put into their mouths."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from rlhf_ray.durable import digest
from rlhf_ray.feedback.ledger import Ledger
from tests.serve.conftest import application

from serve.artefact import Artefact
from serve.orders import Answer, Load, Order, Refusal, Said
from serve.reward import Pair, Verdict

Says = Callable[[str, Order], str]
START_S = 30.0


class Speaker:
    def __init__(self, name: str, says: Says) -> None:
        self.name, self.says = name, says

    def about(self) -> Artefact:
        return Artefact(self.name, "", None, digest=digest(self.name.encode()))

    async def complete(self, order: Order) -> Answer | Refusal:
        said = Said(0, self.says(self.name, order), tokens=[1], logprobs=[-0.5], finish="stop", ended=True)
        return Answer([said], 1, self.about().digest)

    async def load(self) -> Load:
        return Load(slots=8, taken=2, waiting=0)


class Weigher:
    """A reward model that likes a text the better the longer it is."""

    def about(self) -> Artefact:
        return Artefact("reward", "", None, digest="c" * 64)

    def judge(self, pairs: list[Pair]) -> list[Verdict]:
        chances = map(self.chance, pairs)
        return [Verdict(chance - 0.5, chance, 1) for chance in chances]

    def chance(self, pair: Pair) -> float:
        return min(0.97, 0.05 + len(pair.completion or "") / 300)


@contextmanager
def site(folder: Path, says: Says, weigher: Any = None, **more: Any) -> Iterator[str]:
    """Its address. `more` is the doors' own."""
    speakers: Any = {name: Speaker(name, says) for name in ("tuned", "sft")}
    with opened(folder, speakers, weigher or Weigher(), **more) as address:
        yield address


@contextmanager
def opened(folder: Path, speakers: Any, weigher: Any, **more: Any) -> Iterator[str]:
    """As `site`, over whoever speaks and weighs."""
    with Ledger.open(folder, "doors") as ledger, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = application(speakers["tuned"], weigher, speakers=speakers, ledger=ledger, **more)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(START_S)
        assert not thread.is_alive(), "the server did not end"
