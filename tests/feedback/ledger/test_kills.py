"""Whoever is killed whenever: what was acknowledged is there, once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_ray.feedback.archive import Manifest
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.segments import segments

from .conftest import completion

KILLS = int(os.environ.get("RLHF_RAY_LEDGER_KILLS", "25"))  # of the drill
VOTES = """
import os, sys, threading
from itertools import count
from pathlib import Path
from rlhf_ray.feedback.ledger import Ledger
from tests.feedback.ledger.conftest import vote

def click(thread):
    for number in count():
        name = f"{sys.argv[2]}-{thread}-{number}"
        one = vote(0, vote_id=name, person=name)
        ledger.append(one)
        os.write(1, f"{one.vote_id}\\n".encode())
        if number % 3 == 0:
            ledger.append(one)  # a client that did not hear of it

ledger = Ledger.open(Path(sys.argv[1]), "r0")
threads = [threading.Thread(target=click, args=(thread,)) for thread in range(8)]
for thread in threads:
    thread.start()
"""
COMPACTS = """
import os, sys
from pathlib import Path
from rlhf_ray.feedback.compaction import compact
while True:
    compact(Path(sys.argv[1]))
    os.write(1, b"done\\n")
"""


@pytest.mark.parametrize("kills", [5, pytest.param(KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_kills_of_writers_and_compactors_lose_nothing_and_double_nothing(folder: Path, kills: int) -> None:
    chance, acknowledged = random.Random(kills), set()
    with Ledger.open(folder, "first") as ledger:
        ledger.append(completion(0))
    for kill in range(kills):
        writer, compactor = child(VOTES, folder, str(kill)), child(COMPACTS, folder)
        for process in (writer, compactor):
            assert process.stdout
            first = process.stdout.readline()
            assert first
            acknowledged |= {first.decode().strip()}
        time.sleep(chance.uniform(0, 0.3))
        for process in chance.sample([writer, compactor], 2):
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.05))
        for process in (writer, compactor):
            assert process.stdout
            acknowledged |= set(process.stdout.read().decode().split("\n"))
            process.stdout.close()
            assert process.wait(timeout=60) == -signal.SIGKILL
    acknowledged -= {"done", ""}
    check(folder, acknowledged)
    Ledger.open(folder, "r0").close()
    compact(folder)
    check(folder, acknowledged)
    assert not segments(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("date=*/*")} == set(Manifest.read(folder).parts)
    print(f"{kills} kills of each: {len(acknowledged)} acknowledged, 0 lost, 0 doubled")


def check(folder: Path, acknowledged: set[str]) -> None:
    found = [row["vote_id"] for row in Reader(folder).votes()]
    assert acknowledged <= set(found)
    assert len(found) == len(set(found))
    assert len(Reader(folder).live_votes()) == len(found)


def child(code: str, *words: object) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": root},
    )
