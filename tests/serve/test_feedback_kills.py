"""R10: votes and completions under load through HTTP, while whoever holds, compacts or starts the ledger is killed."""

import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from urllib3.exceptions import HTTPError

from rlhf_ray.client import Client, ServerError
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.reader import Reader
from tests.serve.served import config_of, free_port, served

KILLS = int(os.environ.get("RLHF_RAY_FEEDBACK_KILLS", "8"))
PEOPLE = 8
ORDER = [*["doors", "compactor"] * 2, "driver", *["compactor", "doors"] * 2]  # with a driver all begins anew
Found = TypeVar("Found")


@dataclass
class Crowd:
    """People who ask and vote without pause, and what they were told that is kept."""

    url: str
    votes: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # by their ids: person, completion and label
    texts: dict[str, str] = field(default_factory=dict)  # by completion
    over: threading.Event = field(default_factory=threading.Event)
    failed: Counter[str] = field(default_factory=Counter)

    def live(self, number: int) -> None:
        client, chance, count = Client(self.url, timeout_s=20), random.Random(number), 0
        while not self.over.is_set():
            try:
                self._ask_and_vote(client, chance, f"{number}-{count}")
            except ServerError as error:
                self.failed[str(error)] += 1
                time.sleep(0.2)
            except HTTPError as error:
                self.failed[type(error).__name__] += 1
                time.sleep(0.2)
            count += 1

    def _ask_and_vote(self, client: Client, chance: random.Random, person: str) -> None:
        said = client.complete("the quick", max_tokens=2)
        self.texts[said["id"]] = said["choices"][0]["text"]
        for _ in range(12):
            name, label = chance.choice(list(self.texts)), chance.choice((1, -1))
            told = client.feedback(name, label, user=person)
            self.votes[told["id"]] = (f"local/{person}", name, label)


def workers(server: "subprocess.Popen[bytes]", title: str) -> list[psutil.Process]:
    """Of the server's own children alone: those of Ray's processes with that title."""
    found = []
    for child in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):
            if title in " ".join(child.cmdline()):
                found.append(child)
    return found


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # nobody may be there to bury it
    except psutil.NoSuchProcess:
        return False


def kill(server: "subprocess.Popen[bytes]", role: str, chance: random.Random) -> None:
    """With the driver everything else ends, too."""
    if role == "driver":
        others = workers(server, "ray::")
        server.kill()
        server.wait()
        wait_for(lambda: not any(map(lives, others)), "end of what the driver started")
    else:
        (victim, *_) = wait_for(lambda: workers(server, f"ServeReplica:rlhf:{role}"), role)
        time.sleep(chance.uniform(0, 0.5))
        victim.kill()


def go_on(crowd: Crowd) -> None:
    """Returns when more votes have been acknowledged."""
    votes = len(crowd.votes)
    wait_for(lambda: len(crowd.votes) > votes + 50, "votes")


def wait_for(what: Callable[[], Found], name: str, seconds: float = 120) -> Found:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"no {name} within {seconds} s"
        time.sleep(0.02)
    return found


def plan(kills: int) -> list[list[str]]:
    """Whom to kill of each server, one after the other: a driver is the last."""
    found: list[list[str]] = [[]]
    for role in islice(cycle(ORDER), kills):
        found[-1].append(role)
        if role == "driver":
            found.append([])
    return found


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_kills_under_load_lose_no_acknowledged_vote_and_double_none(
    policy_folder: str, reading_reward_folder: str, tmp_path: Path
) -> None:
    chance, ledger, port, begin = random.Random(KILLS), tmp_path / "ledger", free_port(), time.monotonic()
    config = config_of(policy_folder, reading_reward_folder, ledger, port)
    (application,) = config["applications"]
    application["args"]["compaction_s"] = 0.05
    (doors,) = (each for each in application["deployments"] if each["name"] == "doors")
    doors["autoscaling_config"]["min_replicas"] = 2
    crowd = Crowd(f"http://127.0.0.1:{port}")
    people = [threading.Thread(target=crowd.live, args=(number,), daemon=True) for number in range(PEOPLE)]
    for person in people:
        person.start()
    for roles in plan(KILLS):
        with served(tmp_path, config) as server:
            for role in roles:
                go_on(crowd)
                kill(server, role, chance)
            if "driver" not in roles:
                go_on(crowd)
                crowd.over.set()
                for person in people:
                    person.join(60)
    check(ledger, crowd)
    compact(ledger)
    check(ledger, crowd)
    print(
        f"{KILLS} kills in {time.monotonic() - begin:.0f} s: {len(crowd.votes)} votes and {len(crowd.texts)} "
        f"completions acknowledged, 0 lost, 0 doubled; {dict(crowd.failed)} requests failed"
    )


def check(ledger: Path, crowd: Crowd) -> None:
    reader = Reader(ledger)
    found = Counter(row["vote_id"] for row in reader.votes())
    kept = {row["vote_id"]: (row["person"], row["completion_id"], row["label"]) for row in reader.votes()}
    assert {name: kept.get(name) for name in crowd.votes} == crowd.votes
    assert max(found.values()) == 1
    live = [(row["person"], row["completion_id"]) for row in reader.live_votes()]
    assert len(live) == len(set(live))
    given = reader.completions(crowd.texts)
    assert {name: given[name].completion for name in crowd.texts} == crowd.texts
