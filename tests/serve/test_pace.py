"""S14: a person has one limit, however many processes let him through, and whoever of them dies."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from urllib3.exceptions import HTTPError

from rlhf_ray.client import Client, ServerError
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from tests.serve.conftest import application, local
from tests.serve.served import ROOT, models, small
from tests.serve.server import running
from tests.serve.test_doors import complete

from serve.feedback import VOTES_A_MINUTE
from serve.pace import REST_S, SharedPace

GREEDY = "import sys; from pathlib import Path; from serve.pace import SharedPace\n"
GREEDY += "pace = SharedPace(Path(sys.argv[1]), 60, patience=20); print(sum(not pace.wait('ada') for _ in range(100)))"

ENDLESS = "import sys; from pathlib import Path; from serve.pace import SharedPace\n"
ENDLESS += "pace = SharedPace(Path(sys.argv[1]), 60, patience=20); pace.wait('eve'); Path(sys.argv[2]).touch()\n"
ENDLESS += "for number in range(10**9): pace.wait(str(number))"


def passed(paces: list[SharedPace], person: str, tries: int) -> int:
    return sum(not paces[number % len(paces)].wait(person) for number in range(tries))


def test_processes_that_ask_at_once_let_as_many_through_as_one_would(tmp_path: Path) -> None:
    SharedPace(tmp_path / "pace", 60, patience=20).wait("bob")
    ask = [sys.executable, "-c", GREEDY, str(tmp_path / "pace")]
    asking = [subprocess.Popen(ask, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(each.communicate(timeout=60)[0]) for each in asking) == 60
    assert passed([SharedPace(tmp_path / "pace", 60, patience=20)], "bob", 100) == 59


def test_processes_that_are_killed_while_they_count_leave_a_file_that_counts(tmp_path: Path, caplog) -> None:
    pace = SharedPace(tmp_path / "pace", 60, patience=20)
    for number in range(5):
        begun = tmp_path / f"{number}"
        counting = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / "pace"), str(begun)], cwd=ROOT)
        while not begun.exists():
            assert counting.poll() is None
            time.sleep(0.01)
        time.sleep(0.02 * number)
        counting.kill()
        counting.wait()
        assert passed([pace], "ada", 100) == (60 if number == 0 else 0)
    assert not caplog.records


def test_whoever_waited_as_long_as_he_was_told_may_go_on(tmp_path: Path) -> None:
    one, other = (SharedPace(tmp_path / "pace", 3, seconds=0.5, patience=20) for _ in range(2))
    assert passed([one, other], "ada", 9) == 3
    assert one.wait("ada") == other.wait("ada") == 1
    time.sleep(0.5)
    assert passed([one, other], "ada", 9) == 3, "who was refused has not begun to wait anew"


def test_without_the_file_each_process_goes_by_what_it_let_through(tmp_path: Path) -> None:
    one, other = (SharedPace(tmp_path / "pace", 10, patience=20) for _ in range(2))
    assert passed([one, other], "ada", 8) == 8
    for pace in (one, other):
        pace.close()
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "pace").write_bytes(b"damaged" * 1000)
    assert [passed([pace], "ada", 20) for pace in (one, other)] == [6, 6], "each had let four through"
    (tmp_path / "pace").unlink()
    time.sleep(REST_S)
    assert passed([one, other], "bob", 20) == 10, "a new file is begun by itself"
    assert passed([one, other], "ada", 20) == 0, "and is no second allowance"


def test_who_holds_the_file_keeps_nobody_waiting(tmp_path: Path, caplog) -> None:
    pace = SharedPace(tmp_path / "pace", 10, patience=0.5)
    holder = sqlite3.connect(tmp_path / "pace", isolation_level=None)
    assert passed([pace], "ada", 4) == 4
    holder.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()
    assert passed([pace], "ada", 20) == 6
    assert time.monotonic() - begin < 2 * 0.5, "the file is not tried anew for each vote"
    assert passed([pace], "bob", 1) == 1
    assert len(caplog.records) == 1
    holder.close()
    time.sleep(REST_S)
    assert passed([pace], "bob", 20) == 9
    assert passed([SharedPace(tmp_path / "pace", 10)], "bob", 20) == 1, "what each counted alone is not in the file"
    assert [record.message.endswith("together again") for record in caplog.records] == [False, True]


def test_two_doors_have_one_limit(generator, reward, tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "doors") as ledger, Ledger.open(tmp_path, "doors") as another:
        doors = [application(generator, reward, ledger=each) for each in (ledger, another)]
        with local(doors[0]) as first, local(doors[1]) as second:
            body = {"completion_id": complete(first)["id"], "label": 1}
            told = [each.post("/v1/feedback", json=body).status_code for _ in range(40) for each in (first, second)]
    assert Counter(told) == {200: VOTES_A_MINUTE, 429: 80 - VOTES_A_MINUTE}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_replicas_of_doors_have_one_limit_though_one_dies(
    policy_folder: str, reading_reward_folder: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    args = models(policy_folder, reading_reward_folder) | {"ledger": str(ledger), "compaction_s": 3600}
    with running(tmp_path, small(args, {"doors": 2})) as server:
        victim, _ = server.wait_for("replica", "doors", 2)
        name = server.client(9).complete("the quick", max_tokens=2)["id"]
        told, begin = voted(server.client(), name, VOTES_A_MINUTE // 2), time.monotonic()
        server.signal(victim, signal.SIGKILL)
        told += voted(server.client(), name, VOTES_A_MINUTE // 2 + 20)
        took = time.monotonic() - begin
        assert took < 45, "or the limit was over"
        assert server.client(9).feedback(name, 1, user="eve")["label"] == 1
    parts = [path.read_bytes().count(b'"vote_id"') for path in (ledger / "segments").iterdir()]
    print(f"{told} in {took:.1f} s; votes by process {parts}")
    assert (told[200], told[429]) == (VOTES_A_MINUTE, 20)
    assert sum(count > 0 for count in parts) > 1, "more than one let votes through"
    assert Counter(row["person"] for row in Reader(ledger).votes()) == {"local/ada": VOTES_A_MINUTE, "local/eve": 1}


def voted(client: Client, name: str, count: int) -> Counter[int]:
    """How often ada heard what, until the server has said yes or too many so often."""
    told = Counter[int]()
    while told[200] + told[429] < count:
        try:
            client.feedback(name, (-1) ** told.total(), user="ada")
            told[200] += 1
        except ServerError as error:
            told[error.status] += 1
        except HTTPError:
            told[0] += 1
    return told
