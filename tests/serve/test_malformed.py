"""S6 on a served application: whatever its own description lets one make up, and what comes near it, is answered well.

`RLHF_RAY_REQUESTS` is how many requests each of the two ways to make them up sends.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from urllib3 import PoolManager

from tests.serve.served import models, small
from tests.serve.server import Server, running
from tests.serve.test_fuzz import MARK, bodies

REQUESTS = int(os.environ.get("RLHF_RAY_REQUESTS", "200"))
TELLING = 12  # characters; what is shorter may stand in a sentence of ours by chance
pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * 3600)]


@pytest.fixture(scope="module")
def server(
    policy_folder: str, reading_reward_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With every door open, and one replica of each."""
    folder: Path = tmp_path_factory.mktemp("malformed")
    args = models(policy_folder, reading_reward_folder) | {"ledger": str(folder / "ledger")}
    with running(folder, small(args, {"doors": 1, "tuned": 1, "sft": 1, "reward": 1})) as server:
        before = alive(server)
        yield server
        assert alive(server) == before, "nobody died of it"


def alive(server: Server) -> list[tuple[str, int]]:
    everyone = [server.processes(role) for role in ("controller", "proxy", "replica")]
    return [(each["name"], each["pid"]) for some in everyone for each in some]


def many(strategy: st.SearchStrategy[Any], send: Callable[[Any], int]) -> Counter[int]:
    """How often each status was answered."""
    found: Counter[int] = Counter()

    @given(made=strategy)
    @settings(
        suppress_health_check=list(HealthCheck),
        max_examples=REQUESTS,
        deadline=None,
        derandomize=False,
        database=None,
        phases=[Phase.generate],
    )
    def each(made: Any) -> None:
        found[send(made)] += 1

    each()
    return found


def check(status: int, body: bytes, sent: set[str], known: str = "") -> int:
    """`sent` are words of the request of which an error may say none that is not a `known` one of ours."""
    assert status < 500, body
    if status >= 400:
        assert len(body) <= 1024
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        told = body.decode() + json.dumps(json.loads(body), ensure_ascii=False)
        assert not [word for word in sent if word in told and word not in known]
    return status


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


def test_bodies_that_are_nearly_right(server: Server) -> None:
    pool = PoolManager(retries=False)

    def send(made: tuple[str, bytes]) -> int:
        door, body = made
        answer = pool.request("POST", server.url + door, body=body, headers={"Content-Type": "application/json"})
        return check(answer.status, answer.data, {MARK})

    print(f"{REQUESTS} bodies: {dict(many(bodies(), send))}")


def test_whatever_the_description_lets_one_make_up(server: Server) -> None:
    """Right and wrong requests to every door that it names: bodies, queries, paths and headers."""
    description = PoolManager().request("GET", f"{server.url}/openapi.json").json()
    doors = [result.ok() for result in schemathesis.openapi.from_dict(description).get_all_operations()]
    made = st.one_of(*(door.as_strategy(generation_mode=mode) for door in doors for mode in GenerationMode))
    asked: Counter[str] = Counter()

    def send(case: Case) -> int:
        answer = case.call(base_url=server.url, timeout=90)
        asked[case.path] += 1
        sent = [case.body, case.query, case.path_parameters, dict(case.headers or {})]
        told = {word for word in words(sent) if len(word) >= TELLING}
        return check(answer.status_code, answer.content, told, known=json.dumps(description))

    found = many(made, send)
    print(f"{sum(found.values())} requests to {len(asked)} doors: {dict(found)}")
    assert len(asked) > 0.9 * len({door.path for door in doors}) or REQUESTS < 100
