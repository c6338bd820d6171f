"""Where processes on several machines meet, and from which address they speak there."""

import os
import socket
from typing import Any

import psutil
import ray


def free_place(worker: Any) -> str:
    """An address, on the machine of the actor that runs this, that nobody listens at."""
    address = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((address, 0))
        return f"tcp://{address}:{probe.getsockname()[1]}"


def use_own_interface() -> None:
    """Let gloo speak from the address by which Ray knows this machine.

    By itself it takes that of the machine's name, which many systems say is the loopback.
    """
    address = ray.util.get_node_ip_address()
    for name, has in psutil.net_if_addrs().items():
        if any(each.address == address for each in has):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def join(learner: Any, place: str, rank: int, size: int, deadline_s: float) -> None:
    """Runs in a learner's actor."""
    use_own_interface()
    learner.join(place, rank, size, deadline_s)


def torch_config(backend: str, timeout_s: int) -> Any:
    """Ray Train's way of meeting, but from the own interface."""
    from ray.train.torch import TorchConfig

    class Meeting(TorchConfig().backend_cls):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(use_own_interface)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return Meeting

    return Config(backend=backend, timeout_s=timeout_s)
