"""R10: votes and completions under load through HTTP, while whoever holds, compacts or starts the ledger is killed."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.client import Client
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.reader import Reader
from tests.serve.crowd import Crowd
from tests.serve.served import models, small
from tests.serve.server import Server, running

KILLS = int(os.environ.get("RLHF_RAY_FEEDBACK_KILLS", "6"))
ORDER = [*["doors", "compactor"] * 2, "driver", *["compactor", "doors"] * 2]  # with a driver all begins anew


@dataclass
class Voters(Crowd):
    """People who ask and vote without pause, and what they were told that is kept."""

    votes: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # by their ids: person, completion and label
    texts: dict[str, str] = field(default_factory=dict)  # by completion
    people: Any = field(default_factory=count)

    def turn(self, client: Client, chance: random.Random) -> Mapping[str, Any]:
        said, person = client.complete("the quick", max_tokens=2), str(next(self.people))
        self.texts[said["id"]] = said["choices"][0]["text"]
        for _ in range(12):
            name, label = chance.choice(list(self.texts)), chance.choice((1, -1))
            told = client.feedback(name, label, user=person)
            self.votes[told["id"]] = (f"local/{person}", name, label)
        return {}

    def go_on(self, deadline_s: float = 120) -> None:
        """Returns when more votes have been acknowledged."""
        votes, begin = len(self.votes), time.monotonic()
        while len(self.votes) <= votes + 50:
            assert time.monotonic() - begin < deadline_s, Counter(heard.text for heard in self.failed[-20:])
            time.sleep(0.02)


def kill(server: Server, role: str, chance: random.Random) -> None:
    """With the driver everything else ends, too, and nobody waits for that: the next server comes at once."""
    if role == "driver":
        server.process.kill()
        server.process.wait()
    else:
        victim = server.wait_for("replica", role, 1)[0]
        time.sleep(chance.uniform(0, 0.5))
        server.signal(victim, signal.SIGKILL)


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
    chance, ledger, begin = random.Random(KILLS), tmp_path / "ledger", time.monotonic()
    args = models(policy_folder, reading_reward_folder) | {"ledger": str(ledger), "compaction_s": 0.05}
    config = small(args, {"doors": 2})
    with Voters(f"http://127.0.0.1:{config['http_options']['port']}", tries=6) as voters:
        for roles in plan(KILLS):
            with running(tmp_path, config) as server:
                for role in roles:
                    voters.go_on()
                    kill(server, role, chance)
                if "driver" not in roles:
                    voters.go_on()
                    voters.leave()
    assert {heard.status for heard in voters.failed} <= {0, 408, 429, 503}, "those after which one tries again"
    check(ledger, voters)
    compact(ledger)
    check(ledger, voters)
    print(
        f"{KILLS} kills in {time.monotonic() - begin:.0f} s: {len(voters.votes)} votes and {len(voters.texts)} "
        f"completions acknowledged, 0 lost, 0 doubled; {Counter(heard.status for heard in voters.failed)} turns failed"
    )


def check(ledger: Path, voters: Voters) -> None:
    reader = Reader(ledger)
    found = Counter(row["vote_id"] for row in reader.votes())
    kept = {row["vote_id"]: (row["person"], row["completion_id"], row["label"]) for row in reader.votes()}
    assert {name: kept.get(name) for name in voters.votes} == voters.votes
    assert max(found.values()) == 1
    live = [(row["person"], row["completion_id"]) for row in reader.live_votes()]
    assert len(live) == len(set(live))
    given = reader.completions(voters.texts)
    assert {name: given[name].completion for name in voters.texts} == voters.texts
