"""Hosts of the tests' own on this machine: network namespaces behind one switch, with addresses of their own.

Nothing outside is touched, and nothing outside can be reached from them. Each command on a host also has memory and a
/tmp/ray of its own; all other folders they share, as machines share a mounted file system.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent.parent
# A host's own places, then the command itself.
ENTER = 'mount -t tmpfs none /dev/shm && mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && exec "$@"'


class Host:
    """One that commands run on, at an address."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address

    def start(self, words: Sequence[str], log: IO[str], **variables: str) -> subprocess.Popen:
        """A process of its own group, in the clone, with this environment active."""
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "sh", "-c", ENTER, "sh"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
        return subprocess.Popen(
            [*enter, *words], stdout=log, stderr=log, env=environment, start_new_session=True, cwd=ROOT
        )


def can_be_made() -> bool:
    """Whether this machine and this user may make network namespaces."""
    name = f"rlhf-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    _ip("netns", "delete", name)
    return True


@contextmanager
def hosts(*names: str) -> Iterator[list[Host]]:
    """Hosts 10.0.0.1, 10.0.0.2, …, for as long as the context lasts. What still runs on them must have been ended."""
    switch, made = f"rlhf-{os.getpid()}-switch", []
    try:
        _ip("netns", "add", switch)
        made.append(switch)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        found = []
        for number, name in enumerate(names, start=1):
            host = Host(f"rlhf-{os.getpid()}-{name}", f"10.0.0.{number}")
            _ip("netns", "add", host.namespace)
            made.append(host.namespace)
            cable = f"cable{number}"
            _ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", cable, "netns", switch)
            _ip("-n", switch, "link", "set", cable, "master", "switch", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            found.append(host)
        yield found
    finally:
        for namespace in made:
            _ip("netns", "delete", namespace)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
