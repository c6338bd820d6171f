"""Who asks: an application with a key and its people, a visitor of the page, or somebody at this machine."""

import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from serve.errors import Refused
from serve.orders import Refusal

COOKIE = "rlhf_visitor"
COOKIE_S = 365 * 24 * 3600
ASKED_WITH = "rlhf_ray"  # what the page's script says in X-Requested-With
_FORM = re.compile(r"(?P<visitor>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True)
class Person:
    """`name` is what the ledger calls them. Whoever `speaks_for_others` may say which of their own people it is."""

    name: str
    speaks_for_others: bool

    def speaking_for(self, user: str | None) -> str:
        """Raises Refused where a visitor says to be somebody."""
        if user is None:
            return self.name
        if not self.speaks_for_others:
            raise Refused(Refusal(400, "user: expected none from a visitor of the page", "user"))
        return f"{self.name}/{user}"


LOCAL = Person("local", speaks_for_others=True)


def holder_of(key_name: str) -> Person:
    return Person(f"key:{key_name}", speaks_for_others=True)


def person_in(request: Request) -> Person:
    """Whom the gate let in."""
    return request.scope["person"]


class Visitors:
    """Knows again whom the page has welcomed, by a cookie that nobody else can sign."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def welcome(self, request: Request, response: Response) -> None:
        """Whoever comes for the first time gets a cookie."""
        if self.find(request.headers):
            return
        visitor = secrets.token_hex(16)
        response.set_cookie(
            COOKIE,
            f"{visitor}.{self._mac(visitor)}",
            max_age=COOKIE_S,
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def find(self, headers: Headers) -> Person | None:
        """The visitor whose cookie it is; None where there is none of ours."""
        form = _FORM.fullmatch(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
        if not form or not hmac.compare_digest(form["mac"], self._mac(form["visitor"])):
            return None
        return Person(f"visitor:{form['visitor']}", speaks_for_others=False)

    def _mac(self, visitor: str) -> str:
        return hmac.digest(self.secret, f"visitor {visitor}".encode(), "sha256").hex()


def check_origin(headers: Headers, *, needed: bool) -> Refusal | None:
    """What changes something must come from a page of this host; with `needed` it must say so, and that it is ours.

    No other page can send the header of ours without this server's leave, which it gives to nobody.
    """
    origin = headers.get("origin")
    if origin is None and not needed:
        return None
    if not _is_here(origin or "", headers.get("host", "")):
        return Refusal(403, "expected an Origin that is this host")
    if needed and headers.get("x-requested-with") != ASKED_WITH:
        return Refusal(403, f"expected X-Requested-With: {ASKED_WITH}")
    return None


def _is_here(origin: str, host: str) -> bool:
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
