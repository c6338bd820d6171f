"""Mutants: what a request becomes where something in it is exchanged, left out, said twice, broken, or put right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import quote

from tests.serve.probe import JSON, MARK, Probe

HOLE = "hole-in-a-value"
# JSON as text, since most of it can be written in no other way.
NUMBERS = [
    "NaN",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "-0.0",
    "1.0",
    "1e2",
    "-1",
    "0",
    "1",
    "9223372036854775808",
]
TEXTS = [r'"\ud800"', r'"a\udfff"', r'"\u0000"', r'"\u202e\u2066a"', '"\u202e"', '"𝕏"', '"\x00"', r'"\x41"', r'"\u00"']
TEXTS += [f'"{MARK}"', '"' + "a" * 3000 + '"', '"' + "é" * 31_000 + '"', '"<script>"', '"\t"', '""', '"true"', '"1"']
NESTED = ["[" * 30_000, "[" * 500 + "]" * 500, '{"a":' * 1000 + "1" + "}" * 1000, '["a",' * 200 + '"a"' + "]" * 200]
NESTED += ["[]", "{}", "[null]", '{"a": {"a": 1}}', f'["{MARK}"]', f'{{"{MARK}": 1}}']
ODD = [*NUMBERS, *TEXTS, *NESTED, "true", "false", "null", "'a'", "01", "+1", "."]
BYTES = [b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"}", b",", b"\\", b"\\u", b"/*", b" " * 100]
HEADERS = {
    "Content-Type": ["text/plain", "application/json; charset=utf-16", "application/json;", "", MARK, "a" * 4000],
    "Content-Encoding": ["gzip", MARK],
    "Idempotency-Key": ["a", MARK, "a" * 129, "\xe9", " "],
    "Authorization": ["Bearer", f"Bearer {MARK}", "Basic YTpi", "\xe9"],
    "Cookie": [MARK, "visitor=", f"visitor={MARK}", "; ; =", "\xe9" * 100, '"'],
    "Origin": ["null", f"https://{MARK}.example", "http://127.0.0.1", "\xe9"],
    "X-Requested-With": ["rlhf_ray", MARK],
    "Host": [f"{MARK}.example", "127.0.0.1", "[::1]", "localhost:1"],
    "Accept": [MARK, "text/event-stream", "a" * 4000],
    "X-Request-ID": [MARK, "\xe9"],
    "Expect": ["100-continue"],
}
QUERIES = [f"limit={MARK}", "limit=0", "limit=1", "limit=" + "9" * 500, "limit=%00", "user=%ff", "user=", "user=ada"]
QUERIES += [f"user={MARK}%0a", "limit=1&limit=2", "limit=%D9%A1", "user=%ED%A0%80", "user=" + "a" * 200]
QUERIES += [MARK, "&&=", "%"]
PATHS = ["/", "/..", "/%2e%2e/", "%00", "/%2f", "//", f"/{MARK}", ";a", "%ff", "/../../admin/versions", "/tuned", "."]


def mutant(probe: Probe, others: Sequence[Probe], right: Mapping[str, Sequence[Any]], chance: Random) -> Probe:
    """`others` are probes of any door, of which it may take a part; `right` are good values of fields by name."""
    if probe.value is None and chance.random() < 0.7:
        return chance.choice([_elsewhere, _headed])(probe, chance)
    kind = chance.choice(
        [_mended, _mended, _mended, _mended, _exchanged, _exchanged, _doubled, _without, _crossed, _broken, _headed]
    )
    if kind is _mended:
        return _mended(probe, right, chance)
    if kind is _crossed:
        return _crossed(probe, chance.choice(others), chance)
    return kind(probe, chance)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everything that is in something: the container, and the key or index."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        yield from places(each)


def _saying(probe: Probe, value: Any, text: str = "") -> Probe:
    return replace(probe, value=value, body=(text or json.dumps(value)).encode("utf-8", "surrogatepass"))


def _copy(probe: Probe) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """A list with its value in it, to be changed, and the places in that list."""
    root = [json.loads(json.dumps(probe.value))]
    return root, list(places(root))


def _mended(probe: Probe, right: Mapping[str, Sequence[Any]], chance: Random) -> Probe:
    """Fields that are known have good values, others stay as they are or are left out."""
    root, found = _copy(probe)
    for container, key in found:
        if isinstance(container, dict) and key in right:
            container[key] = chance.choice(right[key])
    if isinstance(root[0], dict) and chance.random() < 0.5:
        root[0] = {name: each for name, each in root[0].items() if name in right}
    return replace(_saying(probe, root[0]), headers={**probe.headers, **JSON})


def _exchanged(probe: Probe, chance: Random) -> Probe:
    """Something odd in the place of something."""
    root, found = _copy(probe)
    container, key = chance.choice(found)
    container[key] = HOLE
    return _saying(probe, root[0], json.dumps(root[0]).replace(f'"{HOLE}"', chance.choice(ODD)))


def _doubled(probe: Probe, chance: Random) -> Probe:
    """A field twice, with another value the second time, or one that nobody knows."""
    if not isinstance(probe.value, dict) or not probe.value:
        return _exchanged(probe, chance)
    name = chance.choice([*probe.value, MARK])
    return _saying(probe, probe.value, json.dumps(probe.value)[:-1] + f", {json.dumps(name)}: {chance.choice(ODD)}}}")


def _without(probe: Probe, chance: Random) -> Probe:
    root, found = _copy(probe)
    container, key = chance.choice(found)
    del container[key]
    return _saying(probe, root[0]) if root else replace(probe, body=b"", value=None)


def _crossed(probe: Probe, other: Probe, chance: Random) -> Probe:
    """Another door's body, or a field of it besides its own."""
    if not (isinstance(probe.value, dict) and isinstance(other.value, dict) and other.value):
        return replace(probe, body=other.body, value=other.value, said=probe.said | other.said, headers=other.headers)
    name = chance.choice([*other.value])
    return _saying(probe, {**probe.value, name: other.value[name]})


def _broken(probe: Probe, chance: Random) -> Probe:
    """Some of its bytes are others, or it ends early."""
    body, place = probe.body, chance.randint(0, len(probe.body))
    ways = [body[:place], body[:place] + chance.choice(BYTES) + body[place + chance.randint(0, 3) :]]
    if place < len(body):
        ways.append(body[:place] + bytes([body[place] ^ 1 << chance.randrange(8)]) + body[place + 1 :])
    if chance.random() < 0.1:
        ways = [body.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-32-le", "utf-7"])), body * 2]
    return replace(probe, body=chance.choice(ways))


def _headed(probe: Probe, chance: Random) -> Probe:
    name = chance.choice([*HEADERS])
    return replace(probe, headers={**probe.headers, name: chance.choice(HEADERS[name])})


def _elsewhere(probe: Probe, chance: Random) -> Probe:
    """Another method, path or query."""
    what = chance.randrange(4)
    if what == 0:
        return replace(probe, method=chance.choice(["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", MARK]))
    if what == 1:
        return replace(probe, path=probe.path + chance.choice(PATHS))
    text = "".join(chr(chance.randrange(1, 0x500)) for _ in range(chance.randint(0, 8)))
    query = chance.choice([*QUERIES, f"limit={chance.randint(-9, 2000)}", f"user={quote(text)}", quote(text)])
    return replace(probe, path=probe.path + ("&" if "?" in probe.path else "?") + query)
