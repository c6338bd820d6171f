"""S3, S5 and S7 on a served application: its ports, bodies far too large, and clients that come and say nothing."""

import asyncio
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.serve.crowd import Crowd
from tests.serve.runs import save_run
from tests.serve.served import small
from tests.serve.server import Server, in_seconds, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LARGE = 200 * 2**20  # bytes
MOST_GROWTH = 10 * 2**20
# Of Ray's own processes, which listen on all addresses whatever they are told: calls with Ray's token, and metrics.
RAYS_OWN = ("gcs_server", "raylet", "ray::", "/ray/", "jobs.serve")


@pytest.fixture(scope="module")
def server(policy_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("flood")
    run = save_run(folder / "run", policy_folder, seed=1, ends=-50)
    with running(folder, small({"run": str(run)}, {"doors": 1, "tuned": 1, "sft": 1, "reward": 1})) as server:
        yield server


def test_no_port_is_open_to_others_but_rays_own(server: Server) -> None:
    """Ray's are named in docs/serving.md, with what keeps others away from them."""
    host, port = server.url.removeprefix("http://").split(":")
    open_to_others, ours = [], []
    for process in [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]:
        name = " ".join([process.name(), *process.cmdline()])
        for connection in process.net_connections():
            if connection.status != psutil.CONN_LISTEN:
                continue
            if connection.laddr.port == int(port):
                ours.append(connection.laddr.ip)
            elif connection.laddr.ip not in ("127.0.0.1", "::1") and not any(own in name for own in RAYS_OWN):
                open_to_others.append((name[:80], connection.laddr))
    assert ours == [host]
    assert open_to_others == []


@contextmanager
def growth(server: Server) -> Iterator[list[int]]:
    """The largest growth of the memory of proxy and doors meanwhile, in bytes, is put in the list at the end."""
    watched = [
        psutil.Process(each["pid"])
        for role, name in (("proxy", ""), ("replica", "doors"))
        for each in server.processes(role, name)
    ]
    before, most, over = [each.memory_info().rss for each in watched], [0] * len(watched), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for place, process in enumerate(watched):
                most[place] = max(most[place], process.memory_info().rss - before[place])

    thread, found = threading.Thread(target=look), []
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(max(most))


def pour(server: Server, *, chunked: bool) -> bytes:
    """Send a body of 200 MB, as much of it as the server takes; what it answers."""
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {LARGE}\r\n\r\n"
    piece = b" " * 65536
    sent = b"10000\r\n" + piece + b"\r\n" if chunked else piece
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(head.encode())
        try:
            for _ in range(LARGE // len(piece)):
                client.sendall(sent)
        except OSError:  # the server has had enough
            pass
        try:
            return client.recv(4096)
        except OSError:
            return b""


@in_seconds
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_200_mb_costs_no_memory_and_stalls_nobody(server: Server, chunked: bool) -> None:
    honest = server.client()
    honest.versions()
    took = []
    with growth(server) as grown:
        pouring = threading.Thread(target=lambda: answers.append(pour(server, chunked=chunked)))
        answers: list[bytes] = []
        pouring.start()
        while pouring.is_alive() or len(took) < 20:
            begin = time.monotonic()
            assert honest.models()
            took.append(time.monotonic() - begin)
            time.sleep(0.01)
        pouring.join()
    others = f"others at most {max(took) * 1000:.0f} ms (median {statistics.median(took) * 1000:.0f} ms)"
    print(f"200 MB {'in chunks' if chunked else 'declared'}: +{grown[0] / 2**20:.1f} MB, {others}, {answers[0][:20]!r}")
    assert b" 413 " in answers[0].split(b"\r\n")[0] or not answers[0], "or the connection was reset under the sender"
    assert grown[0] < MOST_GROWTH
    assert max(took) < 0.1


async def hold(url: str, idle: int, slow: int, over: threading.Event, here: threading.Event) -> None:
    """So many connections that say nothing, and so many whose heads come a byte a second."""
    host, port = url.removeprefix("http://").split(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(idle + slow)]
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"a" * 10_000
    here.set()
    for byte in head:
        if over.is_set():
            break
        for _, writer in streams[idle:]:
            if not writer.is_closing():
                writer.write(bytes([byte]))
        await asyncio.sleep(1)
    for _, writer in streams:
        writer.close()


@in_seconds
def test_500_silent_connections_slow_nobody_down(server: Server) -> None:
    def p99() -> float:
        with Crowd(server.url, clients=4, tokens=8) as crowd:
            time.sleep(10)
        assert not crowd.failed
        return crowd.p99()

    p99()  # warm
    before, over, here = p99(), threading.Event(), threading.Event()
    holding = threading.Thread(target=lambda: asyncio.run(hold(server.url, 400, 100, over, here)))
    holding.start()
    try:
        assert here.wait(60)
        during = p99()
    finally:
        over.set()
        holding.join()
    print(f"p99 {before * 1000:.0f} ms without, {during * 1000:.0f} ms beside 400 silent and 100 dripping connections")
    assert during < 2 * before
