"""R9: replicas, the controller and the proxy are killed, and models are swapped, while people go on asking.

`RLHF_RAY_CHAOS_S` is how long replicas are killed, and without it nobody is; each drill says last what it saw.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psutil
import pytest
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from tests.serve.crowd import Crowd
from tests.serve.runs import save_run
from tests.serve.served import small
from tests.serve.server import CHAOS_S, Server, in_seconds, running

SECONDS = float(os.environ.get(CHAOS_S, "18"))
EACH_S = 6.0  # between two kills
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(policy_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two replicas of doors and of the tuned model, and two runs."""
    folder = tmp_path_factory.mktemp("chaos")
    for seed in (1, 2):
        save_run(folder / "runs" / f"run-{seed}", policy_folder, seed=seed)
    args = {"run": str(folder / "runs" / "run-1"), "runs": str(folder / "runs"), "versions": str(folder / "versions")}
    with running(folder, small(args, {"doors": 2, "tuned": 2, "sft": 1, "reward": 1})) as server:
        whole(server)
        yield server


def whole(server: Server) -> None:
    """Wait until everybody is there again, and idle."""
    for role, name, count in (
        ("controller", "", 1),
        ("proxy", "", 1),
        *(("replica", name, count) for name, count in (("doors", 2), ("tuned", 2), ("sft", 1), ("reward", 1))),
    ):
        server.wait_for(role, name, count)
    time.sleep(2)


def until_replaced(server: Server, victim: dict[str, Any], deadline_s: float = 120) -> float:
    """Seconds until another of the tuned model's two replicas is there in its place."""
    begin, alive = time.monotonic(), [victim["id"]]
    while victim["id"] in alive or len(alive) < 2:
        assert time.monotonic() - begin < deadline_s
        time.sleep(0.1)
        alive = [each["id"] for each in server.processes("replica", victim["name"])]
    return time.monotonic() - begin


@in_seconds
@pytest.mark.parametrize("tries", [1, 4])
def test_replicas_are_killed_one_after_the_other(server: Server, tries: int) -> None:
    chance = random.Random(tries)
    victims = []
    with Crowd(server.url, tries=tries) as crowd:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            victim = chance.choice(server.processes("replica"))
            victims.append(victim["name"])
            server.signal(victim, signal.SIGKILL)
            time.sleep(EACH_S)
    print(f"replicas killed ({', '.join(victims)}), at most {tries - 1} retries: {crowd.told()}")
    whole(server)
    crowd.check_texts()
    share = 1 - len(crowd.failed) / len(crowd.heard)
    assert share == 1 if tries > 1 else share >= 0.995, crowd.failed[:5]
    assert crowd.p99() <= 1


@in_seconds
def test_a_replica_that_stands_still_is_replaced(server: Server) -> None:
    victim = server.processes("replica", "tuned")[0]
    with Crowd(server.url) as crowd:
        time.sleep(1)
        server.signal(victim, signal.SIGSTOP)
        replaced = until_replaced(server, victim, deadline_s=60)
    print(f"replica stopped: replaced after {replaced:.1f} s; {crowd.told()}")
    crowd.check_texts()
    assert not crowd.failed
    assert replaced <= 15


def test_an_engine_that_dies_takes_its_replica_along_and_nobody_misses_them(server: Server) -> None:
    victim = server.processes("replica", "tuned")[0]
    (engine,) = [
        each for each in psutil.Process(victim["pid"]).children() if "serve.apart_main" in " ".join(each.cmdline())
    ]
    with Crowd(server.url) as crowd:
        time.sleep(1)
        engine.kill()
        replaced = until_replaced(server, victim)
    print(f"engine killed: replaced after {replaced:.1f} s; {crowd.told()}")
    crowd.check_texts()
    assert not crowd.failed


@in_seconds
def test_nobody_misses_the_controller(server: Server) -> None:
    with Crowd(server.url) as crowd:
        for _ in range(max(1, int(SECONDS / 15))):
            server.signal(server.processes("controller")[0], signal.SIGKILL)
            time.sleep(5)
            server.wait_for("controller", "", 1)
    print(f"controller killed: {crowd.told()}")
    crowd.check_texts()
    assert not crowd.failed


@in_seconds
@pytest.mark.parametrize("victim", ["front", "manager"])
def test_a_dead_proxy_is_back_within_seconds(server: Server, victim: str) -> None:
    """The front is what clients come through; its manager is Ray Serve's actor that looks after it."""
    prober, failed = PoolManager(retries=False, timeout=1), []
    victims = server.fronts() if victim == "front" else server.processes("proxy")
    begin = time.monotonic()
    for each in victims:
        server.signal(each, signal.SIGKILL)
    while (now := time.monotonic()) < begin + 12:
        try:
            fine = prober.request("GET", f"{server.url}/healthz").status == 200
        except HTTPError:
            fine = False
        if not fine:
            failed.append(now - begin)
        time.sleep(max(0, now + 0.05 - time.monotonic()))
    print(f"{victim} killed: {len(failed)} probes at 20 Hz failed, the last after {max(failed, default=0):.1f} s")
    assert max(failed, default=0) <= 6
    whole(server)


def test_models_are_swapped_while_people_ask(server: Server) -> None:
    admin = server.client(4)
    first = admin.versions()["serving"]["models"]["tuned"]["version"]
    turns = [(0.0, 0.0, first)]  # when it was asked for, when it was answered, and the version from then on
    with Crowd(server.url) as crowd:
        for run in ("run-2", "back", "run-2", "back"):
            time.sleep(2)
            asked = time.monotonic()
            told = admin.rollback() if run == "back" else admin.promote(run)
            turns.append((asked, time.monotonic(), told["serving"]["models"]["tuned"]["version"]))
        time.sleep(2)
    slowest = max(answered - asked for asked, answered, _ in turns)
    print(f"{len(turns) - 1} swaps, the slowest within {slowest:.1f} s: {crowd.told()}")
    assert not crowd.failed
    crowd.check_texts()
    assert [turn[2] for turn in turns[::2]] == [first] * 3 and turns[1][2] == turns[3][2] != first
    for each in crowd.heard:
        until = each.begin + each.seconds
        answered = [version for _, end, version in turns if end <= each.begin][-1]
        meanwhile = {version for begin, end, version in turns if begin < until and end > each.begin}
        assert each.version in {answered, *meanwhile}
    for number in range(crowd.clients):
        heard = [each.version for each in crowd.heard if each.client == number]
        assert sum(one != other for one, other in pairwise(heard)) == len(turns) - 1, "no version came and went"
