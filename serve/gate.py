"""The gate: what a request must pass before anything reads it. Its body's size, its key, and the time that it has.

It is plain ASGI, around the whole application, and counts every answer.
"""

import asyncio
from time import monotonic
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import errors
from serve.keys import Keys, is_local_name, is_loopback
from serve.keys import Scope as KeyScope
from serve.orders import Refusal
from serve.people import LOCAL, Person, Visitors, check_origin, holder_of
from serve.schemas import BODIES

LARGEST_BODY = 64 * 1024  # bytes
BODY_S = 10.0  # longest wait for a body
OPEN = {"/healthz", "/readyz", "/", "/dashboard", "/page"}
GENERATING = {"/v1/completions", "/v1/chat/completions", "/v1/models", "/openapi.json"}
VISITED: dict[str, KeyScope] = {"/page/answers": "generate", "/v1/feedback": "feedback"}  # a visitor needs no key
GOVERNING = {"/dashboard/data", "/admin/versions", "/admin/processes", "/admin/promote", "/admin/rollback"}
SCOPES: dict[str, KeyScope] = {
    **dict.fromkeys(BODIES, "score"),
    **dict.fromkeys(GENERATING, "generate"),
    **VISITED,
    **dict.fromkeys(GOVERNING, "admin"),
}


class Count(Protocol):
    def __call__(self, door: str, status: int, seconds: float) -> None: ...


class Gate:
    """Without `visitors` nobody is one: whoever has no key must be at this machine."""

    def __init__(
        self, app: ASGIApp, keys: Keys | None, visitors: Visitors | None, timeout_s: float, count: Count
    ) -> None:
        self.app, self.keys, self.visitors, self.timeout_s, self.count = app, keys, visitors, timeout_s, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = monotonic(), 499  # stays so where the client went away before the answer

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with asyncio.timeout(self.timeout_s):
                await self._pass(scope, receive, sending)
        except TimeoutError:
            if status != 499:
                raise  # the answer has begun: nothing but its end can say that it is not whole
            await errors.answer(Refusal(408, f"no answer within {self.timeout_s:g} s"))(scope, receive, sending)
        finally:
            self.count(door_of(scope["path"]), status, monotonic() - begin)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = None
        if door_of(scope["path"]) not in OPEN:
            person = self._person(scope, headers)
            if isinstance(person, Refusal):
                refusal = person
            else:
                scope["person"] = person
        if not refusal and scope["method"] not in ("GET", "HEAD"):
            body = await whole_body(headers, receive)
            if isinstance(body, Refusal):
                refusal = body
            else:
                receive = replay(body, receive)
        if refusal:
            await errors.answer(refusal)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _person(self, scope: Scope, headers: Headers) -> Person | Refusal:
        """Who asks, or why they may not. A browser sends cookies by itself, so those count from our own page only."""
        door, changes = door_of(scope["path"]), scope["method"] not in ("GET", "HEAD")
        client = scope.get("client") or (None,)
        if not self.keys and not (is_loopback(client[0]) and is_local_name(headers.get("host", ""))):
            return Refusal(403, "without keys only this machine is answered")
        if self.keys and "authorization" in headers:
            return self._holder(headers, SCOPES.get(door, "admin"), self.keys)
        visitor = self.visitors.find(headers) if self.visitors and (door in VISITED or not self.keys) else None
        if self.keys and not visitor:
            return Refusal(401, "expected a valid key: Authorization: Bearer …")
        foreign = check_origin(headers, needed=bool(visitor)) if changes else None
        return foreign or visitor or LOCAL

    def _holder(self, headers: Headers, needed: KeyScope, keys: Keys) -> Person | Refusal:
        kind, _, secret = headers["authorization"].partition(" ")
        key = keys.find(secret.strip()) if kind.lower() == "bearer" else None
        if not key:
            return Refusal(401, "expected a valid key: Authorization: Bearer …")
        return holder_of(key.name) if key.may(needed) else Refusal(403, f"expected a key with the scope {needed}")


def door_of(path: str) -> str:
    """The door's own name, never the path as it was sent."""
    if path.startswith("/v1/models/"):
        return "/v1/models"
    if path.startswith("/page/") and path not in SCOPES:
        return "/page"
    return path if path in SCOPES or path in OPEN else "other"


async def whole_body(headers: Headers, receive: Receive) -> bytes | Refusal:
    """The body, if it is as small as it must be. One that is declared to be larger is not read at all."""
    too_large = Refusal(413, f"expected a body of at most {LARGEST_BODY} bytes, got more")
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 20:
        return Refusal(400, "expected a valid Content-Length")
    if int(declared) > LARGEST_BODY:
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while (message := await receive())["type"] == "http.request":
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    return too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return Refusal(408, f"expected a body within {BODY_S:g} s")
    return Refusal(400, "expected a whole body")


def replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then whatever comes."""
    told = False

    async def receiving() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
