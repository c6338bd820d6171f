"""S6 on a served application: whatever its own description lets one make up, and what comes near it, is answered well.

`RLHF_RAY_REQUESTS` is how many different requests are sent, half of them by each of the two ways to make them up.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from urllib3 import request

from tests.serve.barrage import Barrage
from tests.serve.mutants import mutant
from tests.serve.probe import Probe, json_in, probe_of
from tests.serve.served import models, small
from tests.serve.server import Server, running
from tests.serve.test_fuzz import bodies

REQUESTS = int(os.environ.get("RLHF_RAY_REQUESTS", "1000"))
MUTANTS = 3  # of each request that schemathesis makes up
pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * 3600)]


@pytest.fixture(scope="module")
def server(
    policy_folder: str, reading_reward_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With every door open, and one replica of each."""
    folder: Path = tmp_path_factory.mktemp("malformed")
    places = {name: str(folder / name) for name in ("ledger", "versions", "runs")}
    roomy = {"slots": 8, "prompt_tokens": 48, "response_tokens": 16, "queue": 8}  # for what the page asks
    args = models(policy_folder, reading_reward_folder) | places | {"generation": roomy}
    with running(folder, small(args, {"doors": 1, "tuned": 1, "sft": 1, "reward": 1})) as server:
        before = alive(server)
        yield server
        assert alive(server) == before, "nobody died of it"


def alive(server: Server) -> list[tuple[str, int]]:
    everyone = [server.processes(role) for role in ("controller", "proxy", "replica")]
    return [(each["name"], each["pid"]) for some in everyone for each in some]


def described(server: Server) -> dict[str, Any]:
    return request("GET", f"{server.url}/openapi.json").json()


def without_patterns(schema: Any) -> Any:
    """With them schemathesis takes a fifth of a second a case; all but one of ours say that there is no NUL."""
    if isinstance(schema, dict):
        kept = {name: each for name, each in schema.items() if name != "pattern" or not isinstance(each, str)}
        return {name: without_patterns(each) for name, each in kept.items()}
    return [without_patterns(each) for each in schema] if isinstance(schema, list) else schema


def right_values(server: Server) -> dict[str, list[Any]]:
    """Of fields by their names, so that some requests pass the checks of form."""
    given = server.client(9).complete("the quick", seed=1, n=4, max_tokens=8)
    texts = ["the quick", "pack my box", "", "fox\njumps", "é𝕏", [], ["the quick", "pack"]]
    texts += [f"the {number} quick" for number in range(50)]
    names: dict[str, list[Any]] = dict.fromkeys(("prompt", "text_1", "text_2", "input", "query", "completion"), texts)
    return names | {
        "completion_id": [choice["completion_id"] for choice in given["choices"]],
        "model": ["tuned", "sft", "reward", None],
        "max_tokens": [1, 2, 3, None],
        "max_completion_tokens": [1, 2, None],
        "n": [1, 2, None],
        "best_of": [2, 3, None],
        "documents": [["the quick", "pack"], ["a"], texts[7:12], texts[12:30]],
        "role": ["user", "assistant"],
        "content": texts[:3],
        "incident": ["fox"],
        "evidence": [None, "the quick\npack"],
        "label": [1, -1],
        "comment": [None, "good", "\u202e"],
        "user": [None, "ada", "bob", *(f"u{number}" for number in range(200))],
        "run": ["run-1", ".", ".."],
        "temperature": [0, 1, 10, None],
        "top_p": [0.001, 0.5, None],
        "stop": [None, "o", ["a", "e"]],
        "seed": [None, -(2**63), *range(200)],
        "stream": [True, False, None],
        "pairs": [[{"prompt": "the quick", "completion": "fox"}]],
        "messages": [[{"role": "user", "content": "fox"}]],
    }


def test_bodies_that_are_nearly_right(server: Server) -> None:
    barrage = Barrage(server.url, known=json.dumps(described(server)))

    def probes(made: tuple[str, bytes]) -> list[Probe]:
        door, body = made
        return [Probe(door, "POST", door, body, value=json_in(body))]

    barrage.of(bodies(), probes, REQUESTS // 2)
    print(barrage.told())
    assert not barrage.faults, barrage.faults


def test_whatever_the_description_lets_one_make_up(server: Server) -> None:
    """Right and wrong requests to every door that it names, and mutants of each."""
    description, right, chance = described(server), right_values(server), Random()
    loosened = schemathesis.openapi.from_dict(without_patterns(description))
    doors = [result.ok() for result in loosened.get_all_operations()]
    made = st.one_of(*(door.as_strategy(generation_mode=mode) for door in doors for mode in GenerationMode))
    barrage, seen = Barrage(server.url, known=json.dumps(description)), list[Probe]()

    def probes(case: Case) -> list[Probe]:
        probe = probe_of(case)
        seen.append(probe)
        return [probe, *(mutant(probe, seen[-1000:], right, chance) for _ in range(MUTANTS))]

    barrage.of(made, probes, REQUESTS - REQUESTS // 2)
    print(barrage.told())
    assert not barrage.faults, barrage.faults
    most = 0.9 if REQUESTS >= 10_000 else 0.5  # a door without parameters has one request to make up: it may not come
    assert len(barrage.heard) > most * len({door.path for door in doors}) or REQUESTS < 100
