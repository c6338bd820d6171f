"""S4: every door there is, with no key, a bad one, one of another scope, and the right one."""

from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from rlhf_ray.feedback.ledger import Ledger
from tests.serve.conftest import application, local

from serve.keys import Keys, Scope, issue

OPEN = {"/healthz", "/readyz"}
PAGES = {"/", "/dashboard", "/page/{name}"}  # what a browser reads before it knows a key; not part of the description
DOORS = {
    "generate": {"/v1/completions", "/v1/chat/completions", "/v1/models", "/v1/models/{name}", "/page/answers"},
    "score": {"/v1/score", "/score", "/classify", "/v1/rerank", "/rerank"},
    "feedback": {"/v1/feedback"},
    "admin": {"/dashboard/data", "/admin/versions", "/admin/processes", "/admin/promote", "/admin/rollback"},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


@pytest.fixture
def app(generator, reward, tmp_path: Path) -> Any:
    """With a key for each scope, named after it."""
    for scope in get_args(Scope):
        (tmp_path / scope).write_text(issue(tmp_path / "keys.json", scope, [scope]), encoding="utf-8")
    with Ledger.open(tmp_path / "ledger", "doors") as ledger:
        yield application(generator, reward, ledger=ledger, keys=Keys.read(tmp_path / "keys.json"))


def routes(app: Any) -> dict[str, set[str]]:
    """The methods of each path, whether it is described or not."""
    found: dict[str, set[str]] = {}
    for route in app.app.routes:
        if isinstance(route, APIRoute):
            found.setdefault(route.path, set()).update(route.methods)
    return found


def test_no_door_was_forgotten(app, tmp_path: Path) -> None:
    known = {path for paths in DOORS.values() for path in paths}
    assert set(routes(app)) == known | OPEN | PAGES, "a new door belongs into the table above, with its scope"
    with local(app) as web:
        key = (tmp_path / "generate").read_text(encoding="utf-8")
        described = web.get("/openapi.json", headers={"Authorization": f"Bearer {key}"}).json()
        assert set(described["paths"]) == known | OPEN


@pytest.mark.parametrize("scope", DOORS)
def test_a_door_opens_to_its_scope_alone(app, tmp_path: Path, scope: str) -> None:
    others = [other for other in get_args(Scope) if other not in (scope, "admin")]
    bad = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc=", "Bearer \xff"]

    def bearer(name: str) -> str:
        return f"Bearer {(tmp_path / name).read_text(encoding='utf-8')}"

    with local(app) as web:
        for path, methods in routes(app).items():
            if path not in DOORS[scope]:
                continue
            for method in methods:
                assert [status(web, method, path, said) for said in bad] == [401] * len(bad), (method, path)
                assert [status(web, method, path, bearer(other)) for other in others] == [403] * len(others), path
                for name in (scope, "admin"):
                    assert status(web, method, path, bearer(name)) not in (401, 403), (method, path)


def test_no_method_and_no_path_is_open_by_chance(app) -> None:
    paths = [*routes(app), "/docs", "/redoc", "/metrics", "//v1/models", "/admin", "/-/routes"]
    paths += ["/v1/models/../../admin/versions", "/healthz/../admin/versions", "/healthz/", "/ADMIN/versions"]
    with local(app) as web:
        for path in paths:
            if path in OPEN | PAGES:
                assert {status(web, method, path) for method in METHODS if method not in ("GET", "HEAD")} == {405}, path
            else:
                assert {status(web, method, path) for method in METHODS} <= {401, 403, 404}, path


def status(web: TestClient, method: str, path: str, authorization: str = "") -> int:
    headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
    return web.request(method, path.replace("{name}", "tuned"), json={}, headers=headers).status_code
