"""A probe: a request as it is sent, whatever made it up, and the law that every answer to it must keep."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from requests import Request
from schemathesis import Case

TELLING = 12  # characters; what is shorter may stand in a sentence of ours by chance
MARK = "zqxjkv"  # what no sentence of ours contains
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Probe:
    """`path` is as it is sent, with its query; `value` is what the body says, None where it is not JSON."""

    door: str
    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    value: Any = None
    said: frozenset[str] = frozenset()

    @property
    def identity(self) -> int:
        return hash((self.method, self.path, self.body, *self.headers.items()))

    def is_echoed_in(self, answer: str, known: str) -> bool:
        """`known` are words of ours, which an answer may say though they were sent, too."""
        sent = self.said | {word for word in words(self.value) if len(word) >= TELLING}
        return MARK in answer or any(word in answer and word not in known for word in sent)


def probe_of(case: Case) -> Probe:
    """A case of schemathesis; the headers by which it names itself and its cases are left out."""
    ways = {"method", "url", "headers", "cookies", "params", "data", "json", "files"}
    told = {way: value for way, value in case.as_transport_kwargs(base_url="http://host").items() if way in ways}
    request = Request(**told).prepare()
    headers = {name: re.sub(r"[^\t\x20-\x7e\x80-\xff]", "", value) for name, value in request.headers.items()}
    headers = {name: value for name, value in headers.items() if name.lower() in ("content-type", "cookie")}
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    said = {word for word in words([case.query, case.path_parameters, case.body]) if len(word) >= TELLING}
    path = str(request.url).removeprefix("http://host")
    return Probe(case.path, case.method, path, body, headers, json_in(body), frozenset(said))


def json_in(body: bytes) -> Any:
    """None where it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def words(value: Any) -> Iterator[str]:
    """Every text in the value, as it is and as JSON has it."""
    if isinstance(value, str):
        yield from {value, json.dumps(value)[1:-1]}
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from words(name)
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)


def fault(probe: Probe, status: int, body: bytes, known: str) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if status >= 500:
        return "a fault of the server's"
    if status < 400 or (probe.method == "HEAD" and not body):
        return ""
    if len(body) > 1024:
        return "longer than 1 KB"
    try:
        told = json.loads(body)
        if set(told["error"]) != {"message", "type", "param", "code"}:
            return "not an error of our form"
    except (ValueError, TypeError, KeyError):
        return "not an error of our form"
    return "an echo" if probe.is_echoed_in(body.decode() + json.dumps(told, ensure_ascii=False), known) else ""
