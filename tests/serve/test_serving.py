"""The whole way: `python -m jobs.serve` on loopback, Ray Serve's processes, OpenAI's own client and ours."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from openai import BadRequestError, NotFoundError, OpenAI

from rlhf_ray.client import Client, ServerError

ROOT = Path(__file__).parent.parent.parent
PROMPT = "the quick"
pytestmark = pytest.mark.timeout(900)


def free_port() -> int:
    """One that no connection of another process gets by chance before the server has it."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("expected a port below the ephemeral ones that nobody listens at, found none")


def config_of(policy: str, reward: str, port: int, **http: object) -> dict:
    """As configs/serve.yaml, but for models without a run, and small."""
    config = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    config["http_options"] |= {"port": port} | http
    (application,) = config["applications"]
    application["args"] |= {"run": "none", "models": {"tuned": policy, "sft": policy}, "reward": reward}
    application["args"]["generation"] = {"slots": 8, "prompt_tokens": 32, "response_tokens": 32, "queue": 8}
    application["args"]["judging"] = {"most_tokens": 64, "rows": 8}
    return config


@pytest.fixture(scope="module")
def url(policy_folder: str, reading_reward_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's address. It is ended as a person ends it, and must end in order."""
    folder, port = tmp_path_factory.mktemp("serving"), free_port()
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config_of(policy_folder, reading_reward_folder, port)), encoding="utf-8")
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jobs.serve", str(path)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background has it ignored
        )
        try:
            deadline = time.monotonic() + 600
            while "serving on" not in (folder / "log").read_text(encoding="utf-8"):
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")[-4000:]
                assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")[-4000:]
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(120) == 130, (folder / "log").read_text(encoding="utf-8")[-4000:]


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


def test_it_refuses_to_start_where_others_could_reach_it(policy_folder, reading_reward_folder, tmp_path) -> None:
    path = tmp_path / "serve.yaml"
    config = config_of(policy_folder, reading_reward_folder, free_port(), host="0.0.0.0")  # noqa: S104
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.serve", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: keys: expected a file of keys")
