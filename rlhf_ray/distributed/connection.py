"""One connection to Ray: an existing cluster through RAY_ADDRESS, else a local one that ends with the process."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.heap import keeping_variables
from rlhf_ray.runs import Cluster, RunConfig
from rlhf_ray.workers.ranks import PeerLost

Value = TypeVar("Value")


class ActorLost(RuntimeError):
    """An actor died in the middle of a call, and with it its state."""


class NoAnswer(Tripped, TimeoutError):
    """A call to an actor took longer than the deadline."""


def connect(runtime_env: dict[str, Any] | None = None) -> None:
    """Connect to the cluster named by RAY_ADDRESS or start a local one; a second call does nothing.

    `runtime_env` is that of every process started through the connection, unless it has one of its own.
    """
    if ray.is_initialized():
        return
    check_address(os.environ.get("RAY_ADDRESS", ""))
    before = os.umask(0o077)  # the token and session files that Ray makes are nobody else's to read
    polite = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.WARNING, log_to_driver=True, runtime_env=runtime_env)
    finally:
        os.umask(before)
    if callable(polite) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, polite)  # Ray put its own before it, which aborts the process three seconds later


def check_address(address: str) -> None:
    """Raises BadInput where nobody listens at the cluster's address: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # none, or a word such as auto
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"RAY_ADDRESS: expected a cluster that answers at {address}, got: {error}") from None


def check_lasting(config: RunConfig) -> None:
    """Raises BadInput where a submitted job would leave its run in the copy of the code in which Ray starts it.

    Ray removes that copy when it needs the place.
    """
    if RAY_JOB_CONFIG_JSON_ENV_VAR not in os.environ:
        return
    field, place = ("folder", config.folder) if config.storage == "none" else ("storage", config.storage)
    if "://" not in place and not Path(place).is_absolute():
        raise BadInput(
            f"{field}: expected a place that outlives a submitted job, an absolute path on the cluster (folder=/…) or "
            f"a storage (storage=s3://…), got {place}"
        )


def disconnect() -> None:
    """Leave Ray in order: an interpreter that ends in the middle of an interrupted call crashes."""
    if ray.is_initialized():
        ray.shutdown()


def wait_for(refs: Sequence[Any], whom: str, deadline_s: float) -> list[Any]:
    """The values of the calls. Raises what the worker raised, or NoAnswer that says whom it waited for."""
    try:
        return ray.get(list(refs), timeout=deadline_s)
    except RayTaskError as error:
        if isinstance(error.cause, PeerLost):
            raise ActorLost(f"{whom}: {error.cause}") from error
        raise error.cause from error
    except GetTimeoutError:
        raise no_answer(whom, deadline_s) from None
    except RayActorError as error:
        if error.actor_init_failed:
            raise RuntimeError(f"{whom}: the actor could not start: {str(error).strip().splitlines()[-1]}") from error
        raise ActorLost(f"{whom}: the actor died ({str(error).splitlines()[0]})") from error


def done_of(refs: Sequence[Any]) -> list[Any]:
    """Those of the calls that have a value by now, wherever it is, or have failed."""
    return ray.wait(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)[0]


def environment(cluster: Cluster, threads: int | None = None) -> dict[str, dict[str, str]]:
    """The runtime environment of a process that computes on one of the cluster's seats, by default with its threads.

    Freed memory is kept. Where a seat has no GPU, none is seen: what trains there would else take one that nobody gave
    it.
    """
    variables = keeping_variables() | {"OMP_NUM_THREADS": str(threads or cluster.threads_each)}
    return {"env_vars": variables if cluster.gpus_each else variables | {"CUDA_VISIBLE_DEVICES": ""}}


def no_answer(whom: str, deadline_s: float) -> NoAnswer:
    return NoAnswer(
        Alarm(
            "deadline",
            f"{whom}: no answer within {deadline_s:g} s",
            "more work in a call than fits, a reward that answers slowly, or a seat that no machine has room for",
            "see what the actor does (ray stack), or raise cluster.deadline_s",
        )
    )
