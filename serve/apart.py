"""Generators in a process of their own: the engine has Python's lock to itself, whatever comes in here meanwhile.

Calls and answers cross a pair of sockets, which nobody else has, as pickles. The process ends when this one does.
"""

import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from serve.artefact import Artefact
from serve.generation import Generation
from serve.orders import Answer, Load, Order, Refusal
from serve.verdicts import Pair
from serve.versions import Versions

START_S = 600.0  # that a model may take to load
LOOK_S = 1.5  # in which one that is well says so; Ray Serve's own patience is half a second longer
END_S = 0.5  # in which its process must end, before it is killed; Ray gives a replica one second in all
SEND_S = 1.0  # one that takes no calls for so long is as good as dead


@dataclass
class Call:
    """Where somebody waits for what is said: once, or where it streams, until None or an error is."""

    loop: asyncio.AbstractEventLoop
    streams: bool
    said: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    is_over: bool = False

    def hear(self, value: Any) -> None:
        self.is_over = self.is_over or not self.streams or value is None or isinstance(value, BaseException)
        self.said.put_nowait(value)


class Apart:
    """As the Generators that it starts: see there. Raises what those raise when they are made.

    `on_death` is called where the process ends by itself, before anybody is told, in a thread.
    """

    def __init__(
        self,
        name: str,
        versions: Versions,
        config: Generation,
        threads: int,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.on_death = name, on_death
        self.calls: dict[int, Call] = {}
        self.numbers, self.is_closed = count(), False
        self.writing = threading.Lock()
        self.line, theirs = socket.socketpair()  # what `wire` speaks over, too: this end of it can be hung up
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_S), 0))
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "serve.apart_main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.wire = Connection(os.dup(self.line.fileno()))
        try:
            self.wire.send((name, versions, config, threads))
            self._begin()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._hear, name=f"hears {name}", daemon=True).start()

    async def complete(self, order: Order) -> Answer | Refusal:
        """All samples at once. Whoever is cancelled while waiting stops the engine at its next step."""
        return await self._ask("complete", order)

    async def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        """Some more of each sample, as it is said."""
        number, call = self._call("stream", order)
        try:
            while (piece := value_of(await call.said.get())) is not None:
                yield piece
        finally:
            self._let_go(number)

    async def load(self) -> Load:
        return await self._ask("load")

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> str:
        """What is wrong with a version that is to be served; empty where nothing is, and then it is at hand."""
        return await self._ask("rehearse", model, rollouts)

    async def check_health(self) -> Load:
        """Raises RuntimeError where the engine has died or stands still, and so where the process does."""
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._ask("check_health")
        except TimeoutError:
            raise RuntimeError(f"{self.name}: its process says nothing") from None

    def close(self) -> None:
        self.is_closed = True
        self._hang_up()
        self._end()
        self.line.close()

    def _begin(self) -> None:
        """Wait for the model to be loaded."""
        try:
            if not self.wire.poll(START_S):
                raise RuntimeError(f"{self.name}: expected the model to be loaded within {START_S:g} s")
            value_of(self.wire.recv())
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{self.name}: the process that loads it has ended") from None

    async def _ask(self, method: str, *arguments: Any) -> Any:
        number, call = self._call(method, *arguments)
        try:
            return value_of(await call.said.get())
        finally:
            self._let_go(number)

    def _call(self, method: str, *arguments: Any) -> tuple[int, Call]:
        number, call = next(self.numbers), Call(asyncio.get_running_loop(), method == "stream")
        self.calls[number] = call
        if not self._send(number, method, arguments):
            call.hear(self._gone())
        return number, call

    def _let_go(self, number: int) -> None:
        """Nobody waits for this call any more: if there is more to come, the engine need not say it."""
        if not self.calls.pop(number).is_over:
            self._send(number, "", ())

    def _send(self, number: int, method: str, arguments: tuple[Any, ...]) -> bool:
        with self.writing:
            try:
                self.wire.send((number, method, arguments))
            except OSError:
                self._hang_up()  # a part of the message may have gone: nothing after it would be understood
                return False
        return True

    def _hang_up(self) -> None:
        """Nothing more is said or heard, by whoever is about to: the process ends when it notices."""
        with suppress(OSError):  # it has hung up itself
            self.line.shutdown(socket.SHUT_RDWR)

    def _hear(self) -> None:
        """What the process says, until it or this is over. Runs in a thread of its own."""
        try:
            with self.wire, suppress(EOFError, OSError):
                while True:
                    number, value = self.wire.recv()
                    self._tell(number, value)
        finally:
            self._hang_up()
            if not self.is_closed:
                self._mourn()
            for number in list(self.calls):
                self._tell(number, self._gone())

    def _end(self) -> None:
        """Of the process, which has nobody to hear."""
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _mourn(self) -> None:
        self._end()
        print(f"{self.name}: the engine's process ended with {self.process.returncode}", file=sys.stderr, flush=True)
        self.on_death()

    def _tell(self, number: int, value: Any) -> None:
        if call := self.calls.get(number):
            with suppress(RuntimeError):  # a loop that has ended: nobody listens there
                call.loop.call_soon_threadsafe(call.hear, value)

    def _gone(self) -> RuntimeError:
        return RuntimeError(f"{self.name}: its process has ended")


def value_of(said: Any) -> Any:
    if isinstance(said, BaseException):
        raise said
    return said
