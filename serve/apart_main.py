"""The process of generators that live apart: it answers the calls of serve/apart.py until there is nobody to hear."""

import asyncio
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch

from rlhf_ray.config import BadInput

from serve.generators import Generators
from serve.scheduling import interrupt_as_usual


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for whoever started this
    interrupt_as_usual()
    wire = Connection(int(sys.argv[1]))
    name, versions, config, threads = wire.recv()
    torch.set_num_threads(threads)
    try:
        generators = Generators(name, versions, config)
    except Exception as error:
        wire.send(_told(error))
        return
    wire.send(None)
    asyncio.run(answer_all(wire, generators))


async def answer_all(wire: Connection, generators: Generators) -> None:
    """Calls side by side, by number; one without a method ends the call of that number. Does not return."""
    loop, at_work = asyncio.get_running_loop(), dict[int, asyncio.Task[None]]()

    def hear() -> None:
        try:
            number, method, arguments = wire.recv()
        except (EOFError, OSError):
            os._exit(0)  # nobody hears: there is nothing to save, and an engine that hangs would not let go
        if method:
            task = at_work[number] = loop.create_task(answer(wire, generators, number, method, arguments))
            task.add_done_callback(lambda _: at_work.pop(number))
        elif number in at_work:
            at_work[number].cancel()

    loop.add_reader(wire.fileno(), hear)
    await asyncio.Event().wait()


async def answer(
    wire: Connection, generators: Generators, number: int, method: str, arguments: tuple[Any, ...]
) -> None:
    """A stream's pieces and then None, or one value; in place of either what was raised."""
    try:
        if method == "stream":
            async for piece in generators.stream(*arguments):
                wire.send((number, piece))
            wire.send((number, None))
        else:
            wire.send((number, await getattr(generators, method)(*arguments)))
    except Exception as error:
        wire.send((number, _told(error)))


def _told(error: Exception) -> Exception:
    """One that the other side knows, too, with what caused it in its text: a cause does not travel."""
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    kind = type(error) if type(error) in (BadInput, RuntimeError) else RuntimeError
    return kind(f"{error}{cause}" if kind is type(error) else f"{type(error).__name__}: {error}{cause}")


if __name__ == "__main__":
    main()
