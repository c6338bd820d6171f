"""A server whose processes are signalled by the ids that it tells."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from rlhf_ray.client import Client
from tests.serve.served import served

CHAOS_S = "RLHF_RAY_CHAOS_S"
# Whoever shares the machine, as CI does, cannot say whether it was the server that was late.
in_seconds = pytest.mark.skipif(
    CHAOS_S not in os.environ, reason=f"holds a server to seconds: {CHAOS_S}=60 where nothing else is at work"
)


@dataclass
class Server:
    """A server of ours, and the processes that it says are its own: nothing else is ever killed."""

    url: str
    process: "subprocess.Popen[bytes]"
    key: str = ""

    def client(self, tries: int = 1) -> Client:
        return Client(self.url, self.key, tries=tries)

    def processes(self, role: str, name: str = "") -> list[dict[str, Any]]:
        """Those with this role that live and descend from the server, and name if it is given."""
        told = self.client(9).processes()
        own = {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}
        return [each for each in told if each["role"] == role and name in ("", each["name"]) and each["pid"] in own]

    def signal(self, process: dict[str, Any], how: signal.Signals) -> None:
        """Send a signal to one of `processes` or `fronts`."""
        os.kill(process["pid"], how)

    def fronts(self) -> list[dict[str, Any]]:
        """Those through which clients come: HAProxy, a child of the proxy that was reported, or else that itself."""
        proxies = self.processes("proxy")
        below = [child for each in proxies for child in psutil.Process(each["pid"]).children(recursive=True)]
        return [{"pid": child.pid} for child in below if child.name() == "haproxy"] or proxies

    def wait_for(self, role: str, name: str, count: int, deadline_s: float = 60) -> list[dict[str, Any]]:
        """At least so many of them, once they live."""
        begin = time.monotonic()
        while len(found := self.processes(role, name)) < count:
            assert time.monotonic() - begin < deadline_s, found
            time.sleep(0.1)
        return found

    def metrics(self) -> Iterator[bytes]:
        """The page of every process of the server that has one."""
        pool = PoolManager(retries=False, timeout=2)
        for process in psutil.Process(self.process.pid).children(recursive=True):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    with suppress(HTTPError):
                        page = pool.request("GET", f"http://127.0.0.1:{connection.laddr.port}/metrics")
                        if page.status == 200:
                            yield page.data


@contextmanager
def running(folder: Path, config: dict[str, Any], key: str = "") -> Iterator[Server]:
    """The server, once it answers."""
    with served(folder, config) as process:
        yield Server(f"http://127.0.0.1:{config['http_options']['port']}", process, key)
