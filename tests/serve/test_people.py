"""Who somebody is, from the page or with a key, and what no other page can make their browser do."""

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.secret import read_secret
from tests.serve.conftest import application, local
from tests.serve.test_doors import ASK, complete

from serve.keys import Keys, issue
from serve.people import COOKIE, Visitors

HERE = {"Origin": "http://127.0.0.1", "X-Requested-With": "rlhf_ray"}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory):
    with Ledger.open(tmp_path_factory.mktemp("ledger"), "doors") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def web(generator, reward, ledger):
    with local(application(generator, reward, ledger=ledger)) as client:
        yield client


def welcomed(visitors: Visitors, cookie: str = "") -> str:
    """What a first (or further) visit sets."""
    headers = [(b"cookie", cookie.encode())] if cookie else []
    request = Request({"type": "http", "scheme": "http", "path": "/", "headers": headers, "server": ("h", 1)})
    response = Response()
    visitors.welcome(request, response)
    return response.headers.get("set-cookie", "")


@pytest.fixture
def visitor(ledger) -> dict[str, str]:
    said = welcomed(Visitors(read_secret(ledger.folder)))
    return {"Cookie": said.partition(";")[0]}


def test_a_visitor_is_welcomed_once_with_a_cookie_that_scripts_and_other_sites_cannot_use(ledger) -> None:
    visitors = Visitors(read_secret(ledger.folder))
    said = welcomed(visitors)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in said.split(";")}
    cookie = said.partition(";")[0]
    assert not welcomed(visitors, cookie)
    assert welcomed(Visitors(b"x" * 32), cookie), "of another server"


def test_a_visitor_is_known_again_and_others_cannot_be_guessed(web, ledger, visitor) -> None:
    name = complete(web)["id"]
    told = web.post("/v1/feedback", json={"completion_id": name, "label": 1}, headers=visitor | HERE)
    assert told.status_code == 200
    person = next(row["person"] for row in ledger.live_votes() if row["completion_id"] == name)
    assert person == "visitor:" + visitor["Cookie"].partition("=")[2].partition(".")[0]
    assert len(web.get("/v1/feedback", headers=visitor).json()["data"]) == 1
    cookie = visitor["Cookie"]
    for changed in (cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), f"{COOKIE}={'0' * 32}.{'0' * 64}", f"{COOKIE}="):
        assert not web.get("/v1/feedback", headers={"Cookie": changed}).json()["data"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1"},
        {"X-Requested-With": "rlhf_ray"},
        HERE | {"Origin": "http://evil.example"},
        HERE | {"Origin": "null"},
        HERE | {"Origin": "http://127.0.0.1:81"},
        HERE | {"Origin": "http://["},
        HERE | {"X-Requested-With": "XMLHttpRequest"},
    ],
)
def test_no_other_page_can_vote_for_a_visitor(web, ledger, visitor, headers) -> None:
    name = complete(web)["id"]
    for path, body in (("/v1/feedback", {"completion_id": name, "label": 1}), ("/page/answers", {"incident": "quick"})):
        answer = web.post(path, json=body, headers=visitor | headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"
    assert name not in [row["completion_id"] for row in ledger.live_votes()]


def test_a_form_of_another_page_votes_for_nobody(web, visitor) -> None:
    text = '{"completion_id": "c", "label": 1}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert (
            web.post("/v1/feedback", content=text, headers=visitor | HERE | {"Content-Type": kind}).status_code == 415
        )
    foreign = {"Origin": "http://evil.example"}
    assert web.post("/v1/feedback", json={"completion_id": "c", "label": 1}, headers=foreign).status_code == 403


def test_a_visitor_speaks_for_nobody_else(web, visitor) -> None:
    body = {"completion_id": complete(web)["id"], "label": 1, "user": "ada"}
    answer = web.post("/v1/feedback", json=body, headers=visitor | HERE)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "user")
    assert web.get("/v1/feedback", params={"user": "ada"}, headers=visitor).status_code == 400


def test_with_keys_a_visitor_may_use_the_page_and_nothing_else(generator, reward, ledger, visitor, tmp_path) -> None:
    issue(tmp_path / "keys.json", "app", ["admin"])
    app = application(generator, reward, ledger=ledger, keys=Keys.read(tmp_path / "keys.json"))
    with TestClient(app, base_url="http://rca.example", client=("10.0.0.7", 1)) as web:
        here = visitor | HERE | {"Origin": "http://rca.example"}
        asked = web.post("/page/answers", json={"incident": "quick"}, headers=here)
        assert asked.status_code == 400, "a prompt that this small model has no room for"
        assert web.get("/v1/feedback", headers=visitor).status_code == 200
        assert web.post("/v1/completions", json=ASK, headers=here).status_code == 401
        assert web.get("/dashboard/data", headers=visitor).status_code == 401
        assert web.get("/v1/feedback").status_code == 401


def test_a_user_that_is_no_name_is_refused(web) -> None:
    for user in ("\x07", "a" * 129, ""):
        assert web.get("/v1/feedback", params={"user": user}).status_code == 400


def test_a_ledgers_files_are_its_owners_alone(ledger) -> None:
    modes = {path: path.stat().st_mode & 0o077 for path in [ledger.folder, *Path(ledger.folder).rglob("*")]}
    assert not any(modes.values())
