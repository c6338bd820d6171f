"""`ray job submit` from another machine to a cluster of three: packaged, streamed, stopped, and gone on with.

The commands are those of docs/cluster.md, word for word; a run's places and its size come after them.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlhf_ray.durable import is_whole

from .conftest import ROOT
from .hosts import Host, can_be_made, hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-the-tests-alone"  # noqa: S105
STEPS = 16  # more than are done while somebody types a command
ASK = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except OSError as error:
    print(getattr(error, "code", 0))
"""
SMALL = [
    "world={corpus: 60, train_prompts: 60, heldout_prompts: 8, heldout_wordings: 4}",
    "collection={samples: 32, statements: 60, heldout: 12, probes: 4}",
    "reward={epochs: 1}",
    "learning={minibatch: 8}",
    f"ppo={{steps: {STEPS}, episodes: 16}}",
    "evaluation={demo_samples: 2}",
    "save_every=1",
]


@dataclass
class Cluster:
    """Three nodes, and another machine from which people give it work."""

    address: str
    mine: Host
    nodes: list[Host]
    folder: Path

    def start(self, typed: str, *more: str, token: str = TOKEN) -> subprocess.Popen:
        """A command of the page on the other machine, with some words more. What it says is streamed to a file."""
        ray, *words = shlex.split(typed)
        assert ray == "ray"
        variables = {"RAY_API_SERVER_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        log = self.folder / ("job" if "submit" in words else "answer")
        with open(log, "w", encoding="utf-8") as file:
            return self.mine.start(["ray", *words, *more], file, PYTHONUNBUFFERED="1", **variables)

    def answer(self, typed: str, token: str = TOKEN) -> tuple[int, str]:
        code = self.start(typed, token=token).wait(120)
        return code, (self.folder / "answer").read_text(encoding="utf-8")

    @property
    def said(self) -> str:
        """By the job, as it arrives on the other machine."""
        return (self.folder / "job").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The head drives, two workers of one CPU compute, as in cluster/compose.yaml."""
    if not can_be_made():
        pytest.skip("only who may make network namespaces has three machines here")
    folder = tmp_path_factory.mktemp("cluster")
    modest = ["--object-store-memory=200000000", "--disable-usage-stats"]
    with ExitStack() as stack:
        *nodes, mine = stack.enter_context(hosts("head", "one", "two", "mine"))
        log = stack.enter_context(open(folder / "nodes", "w", encoding="utf-8"))
        for node in nodes:
            typed = of_the_page("ray start --block --head" if node is nodes[0] else "ray start --block --address")
            mode, _, *words = shlex.split(typed)
            more = modest if "--head" in words else [*modest, "--num-cpus=1"]
            variables = dict([mode.split("=")]) | {"RAY_AUTH_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
            process = node.start(["ray", *words, *more], log, RAY_JOB_STOP_WAIT_TIME_S="30", **variables)
            stack.callback(end, process)
            wait_until_healthy(node, folder / "nodes")
        yield Cluster("http://10.0.0.1:8265", mine, nodes, folder)


def of_the_page(part: str) -> str:
    """The first command of docs/cluster.md that has this part."""
    return next(line for line in PAGE.splitlines() if part in line and re.match(r"ray |RAY_AUTH_MODE=token ray ", line))


def end(process: subprocess.Popen) -> None:
    """`ray start --block` ends its node with itself; what Ray's agents leave for a while is of its group."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
    namespace = process.args[3]
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True).stdout.split()
    for pid in map(int, pids):
        os.kill(pid, signal.SIGKILL)


def status(host: Host, url: str) -> int:
    """What the address answers to somebody on the host who has no token; 0 where nobody answers."""
    words = ["ip", "netns", "exec", host.namespace, sys.executable, "-S", "-c", ASK, url]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def wait_until_healthy(node: Host, log: Path) -> None:
    """By the address that the probes of cluster/kuberay and cluster/compose.yaml ask."""
    deadline = time.monotonic() + 120
    while status(node, f"http://{node.address}:52365/api/healthz") != 200:
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.5)
    assert status(node, "http://127.0.0.1:52365/api/healthz") == 200, "what cluster/compose.yaml asks"


def wait_for_line(cluster: Cluster, job: subprocess.Popen, line: str) -> None:
    """Until the job, whose log is streamed to the other machine, says it."""
    deadline = time.monotonic() + 300
    while not re.search(line, cluster.said):
        assert job.poll() is None and time.monotonic() < deadline, cluster.said[-3000:]
        time.sleep(0.2)


def test_who_has_no_token_gives_no_orders(cluster: Cluster) -> None:
    assert status(cluster.mine, f"{cluster.address}/api/jobs/") == 401
    code, said = cluster.answer("ray job list", token="another")  # noqa: S106
    assert code != 0
    assert "Invalid authentication token" in said, said[-3000:]


def test_the_doctor_says_what_the_cluster_has(cluster: Cluster) -> None:
    job = cluster.start(of_the_page("--submission-id look"), f"folder={cluster.folder}/run", *SMALL)
    assert job.wait(180) == 0, cluster.said[-3000:]
    for line in (
        r"ok  plan +2 samplers, 2 scorers, 2 learners on 2 seat\(s\)",
        r"ok  CPU +need 2, have 2, of which 2 are free now",
        r"ok  shared +the folder is seen by all 3 machine\(s\)",
        r"ok  ports +Ray at 10.0.0.1:6379; dashboard and jobs at 10.0.0.1:8265, which asks for the token",
        r"ok  code +/.*_ray_pkg_",  # the package's, not what is installed on the machines
    ):
        assert re.search(line, cluster.said), cluster.said[-3000:]


def test_a_run_is_stopped_and_goes_on_by_the_same_id_and_leaves_what_it_made(cluster: Cluster) -> None:
    run, kept = cluster.folder / "run" / "seed-0", cluster.folder / "kept" / "seed-0"
    more = [f"folder={run.parent}", f"storage={kept.parent}", *SMALL]
    job = cluster.start(of_the_page("--submission-id rca-1"), *more)
    wait_for_line(cluster, job, rf"ppo +step \d+/{STEPS}")
    code, said = cluster.answer(of_the_page("job stop"))
    assert code == 0 and "was stopped" in said, said[-3000:]
    job.wait(60)
    assert "'rca-1' was stopped" in cluster.said, cluster.said[-3000:]
    assert not (run / "ppo").exists(), "PPO ended before it was stopped: give it more steps"
    assert list(kept.glob(".unfinished-ppo-*/scratch/checkpoints/step-*/manifest.json"))
    assert cluster.answer(of_the_page("job delete"))[0] == 0
    shutil.rmtree(run)  # the storage is all that is left

    job = cluster.start(of_the_page("--submission-id rca-1"), *more)
    assert job.wait(400) == 0, cluster.said[-3000:]
    assert cluster.said.count("unchanged, skipped") == 4
    steps = [int(step) for step in re.findall(r"ppo +step (\d+)/", cluster.said)]  # of both, for a log goes by its id
    again = len(steps) - len(set(steps))  # a step is told before its checkpoint is written
    assert steps == sorted(steps) and again <= 1, "PPO began at its checkpoint"
    for stage in ("world", "sft", "thumbs", "reward", "ppo", "report"):
        assert is_whole(run / stage, unlisted=["README.md"]), stage
        assert is_whole(kept / stage, unlisted=["README.md"]), stage
    lines = [json.loads(line) for line in (run / "ppo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert pq.read_table(kept / "ppo" / "rollouts.parquet").num_rows == STEPS * 16
    assert json.loads((kept / "summary.json").read_text(encoding="utf-8"))["judged"] is True
