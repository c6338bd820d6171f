"""`python -m jobs.serve` on loopback, with models that take a moment to load."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    """One that no connection of another process gets by chance before the server has it, and no replica of doors."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("expected a port below the ephemeral ones that nobody listens at, found none")


def small(args: Mapping[str, Any], replicas: Mapping[str, int] | None = None, **http: object) -> dict[str, Any]:
    """As configs/serve.yaml, but small, without what it serves; `replicas` are fixed for the deployments they name."""
    config = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    config["http_options"] |= {"port": free_port()} | http
    (application,) = config["applications"]
    application["args"] |= {
        "run": "none",
        "ledger": "none",
        "versions": "none",
        "generation": {"slots": 8, "prompt_tokens": 32, "response_tokens": 32, "queue": 8},
        "judging": {"most_tokens": 64, "rows": 8},
    } | dict(args)
    for deployment in application["deployments"]:
        if count := (replicas or {}).get(deployment["name"]):
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = count
    return config


def models(policy: str, reward: str) -> dict[str, Any]:
    """Arguments that serve models without a run: the same one twice, and a reward model."""
    return {"models": {"tuned": policy, "sft": policy}, "reward": reward}


@contextmanager
def served(
    folder: Path, config: dict[str, Any], end: signal.Signals = signal.SIGINT
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that answers. By default a person ends it, and it must end in order, if it was not killed meanwhile."""
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jobs.serve", str(path)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background has it ignored
        )
        try:
            deadline = time.monotonic() + 600
            while "serving on" not in (folder / "log").read_text(encoding="utf-8"):
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")[-4000:]
                assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")[-4000:]
                time.sleep(0.2)
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(end)
                assert server.wait(120) == 130, (folder / "log").read_text(encoding="utf-8")[-4000:]
