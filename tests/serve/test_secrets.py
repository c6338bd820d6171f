"""S19: keys, cookies and tokens are in nothing that a server writes, tells or exports."""

import re
import time
from pathlib import Path

import psutil
import pytest
from urllib3 import PoolManager

from rlhf_ray.client import Client, ServerError
from tests.serve.runs import save_runs
from tests.serve.served import small
from tests.serve.server import Server, running

from serve.keys import Scope, issue

WRONG = "rlhf-canary-of-a-wrong-key-91c4"
ENVIRONMENT = {name: f"canary-{name.lower()}-91c4" for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RLHF_RAY_KEY")}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def use(server: Server, secrets: dict[str, str], run: str) -> str:
    """Everything that wants a key, with right ones and wrong ones; the cookie of a visitor, who votes, too."""
    for key in (secrets["generate"], secrets["feedback"], secrets["admin"], WRONG):
        client = Client(server.url, key, tries=2)
        for call in (
            lambda client=client: client.complete("the quick", max_tokens=2),
            lambda client=client: client.score([("a", "b")]),
            lambda client=client: client.feedback("no-such-completion", 1, user="ada"),
            lambda client=client: client.promote(run),
            lambda client=client: client.promote("no-such-run"),
            lambda client=client: client.processes(),
        ):
            try:
                call()
            except ServerError as refused:
                assert not [name for name, secret in secrets.items() if secret in str(refused)]
    pool, own = PoolManager(retries=False), {"Origin": server.url, "X-Requested-With": "rlhf_ray"}
    cookie = pool.request("GET", server.url).headers["Set-Cookie"].partition(";")[0]
    own |= {"Cookie": cookie, "Content-Type": "application/json"}
    given = pool.request("POST", f"{server.url}/page/answers", json={"incident": "fox"}, headers=own).json()
    assert "answers" in given, given
    vote = {"completion_id": given["answers"][0]["completion_id"], "label": 1}
    assert pool.request("POST", f"{server.url}/v1/feedback", json=vote, headers=own).status == 200
    return cookie.rpartition(".")[2]


def session(server: Server) -> Path:
    """Where this server's Ray writes its logs."""
    words = [word for child in psutil.Process(server.process.pid).children(recursive=True) for word in child.cmdline()]
    (found,) = {match[0] for word in words if (match := re.search(r"/[\w./-]*/session_\d[\w.-]+", word))}
    return Path(found)


def test_no_secret_is_written_told_or_exported(policy_folder: str, tmp_path: Path, monkeypatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    save_runs(tmp_path / "runs", policy_folder, 2)
    scopes: list[Scope] = ["generate", "feedback", "admin"]
    secrets = {scope: issue(tmp_path / "keys", scope, [scope]) for scope in scopes} | ENVIRONMENT | {"wrong": WRONG}
    places = {name: str(tmp_path / name) for name in ("runs", "versions", "keys", "ledger")}
    roomy = {"slots": 8, "prompt_tokens": 48, "response_tokens": 16, "queue": 8}  # for what the page asks
    config = small({"run": str(tmp_path / "runs" / "run-1"), "generation": roomy} | places)
    with running(tmp_path, config, secrets["admin"]) as server:
        secrets["cookie"] = use(server, secrets, "run-2")
        logs, deadline, pages = session(server), time.monotonic() + 60, list(server.metrics())
        while not any(b"rlhf_requests_total" in page for page in pages):  # exported every ten seconds
            assert time.monotonic() < deadline, [page[:60] for page in pages]
            time.sleep(1)
            pages = list(server.metrics())
    secret, token = (tmp_path / "ledger" / ".secret").read_bytes(), Path("~/.ray/auth_token").expanduser()
    canaries = {name: value.encode() for name, value in secrets.items()} | {"ray": token.read_bytes().strip()}
    canaries |= {"ledger": secret, "ledger, written": secret.hex().encode()}
    files = [path for folder in (tmp_path, logs) for path in folder.rglob("*") if path.is_file()]
    told = {str(path): path.read_bytes() for path in files if path.name != ".secret"}
    told |= {f"metrics {number}": page for number, page in enumerate(pages)}
    assert len(files) > 40
    print(f"{len(canaries)} secrets in none of {len(files)} files and {len(pages)} pages of metrics")
    found = [(path, name) for path, content in told.items() for name, canary in canaries.items() if canary in content]
    assert found == []
