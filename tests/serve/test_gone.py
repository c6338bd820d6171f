"""S8 through Ray Serve: who hangs up stops paying, whether the answer was to be streamed or not."""

import json
import random
import re
import socket
import statistics
import time
from collections.abc import Iterator

import pytest
import torch
from transformers import GPT2LMHeadModel

from rlhf_ray.models.loading import load_tokenizer
from tests.conftest import tiny_config
from tests.serve.served import models, small
from tests.serve.server import Server, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TIMES = 20
TOKENS = 500  # of an answer that nobody hangs up on
EXPORTED_S = 30.0  # longest wait for what Ray exports


@pytest.fixture(scope="module")
def server(
    policy_folder: str, reading_reward_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Of a model whose answers are as long as they may be."""
    folder = tmp_path_factory.mktemp("gone")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        (config := tiny_config()).n_positions = TOKENS + 8
        policy = GPT2LMHeadModel(config)
        policy.transformer.ln_f.bias += (towards := torch.randn(32) * 1.5)
        policy.transformer.wte.weight[0] = -50 * towards / towards.square().sum()
        policy.save_pretrained(folder / "endless")
    load_tokenizer(policy_folder).save_pretrained(folder / "endless")
    long = {"slots": 4, "prompt_tokens": 8, "response_tokens": TOKENS, "queue": 4}
    args = models(str(folder / "endless"), reading_reward_folder) | {"generation": long}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")  # ten seconds by default
        with running(folder, small(args, {"doors": 1, "tuned": 1, "sft": 1, "reward": 1})) as server:
            yield server


def drawn(server: Server) -> int:
    """Tokens that the server says it has drawn so far, once nothing speaks or waits and it has told everybody so."""
    deadline, last = time.monotonic() + EXPORTED_S, -1
    while time.monotonic() < deadline:
        told = told_by(server)
        if told.get("rlhf_slots_taken") == told.get("rlhf_rows_waiting") == 0 and told["rlhf_tokens_total"] == last:
            return last
        last = told.get("rlhf_tokens_total", -1)
        time.sleep(4)  # more than a health check, in which a replica counts, and Ray's turn to export
    raise AssertionError(f"expected an idle server, got {told}")


def told_by(server: Server) -> dict[str, int]:
    pages = "\n".join(page.decode() for page in server.metrics())
    return {
        name: int(float(value))
        for name, value in re.findall(r"^ray_(rlhf_\w+)\{.*model=\"tuned\".*\} (\S+)$", pages, re.MULTILINE)
    }


def begin(server: Server, *, seed: int, stream: bool) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "the quick", "seed": seed, "stream": stream})
    client = socket.create_connection((host, int(port)))
    client.sendall(
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return client


def seconds_of_an_answer(server: Server) -> float:
    def once(seed: int) -> float:
        start = time.monotonic()
        said = server.client(9).complete("the quick", seed=seed)
        assert said["usage"]["completion_tokens"] == TOKENS
        return time.monotonic() - start

    return statistics.median(once(seed) for seed in range(3))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_who_hangs_up_is_not_spoken_to_any_more(server: Server, stream: bool) -> None:
    chance, whole = random.Random(int(stream)), seconds_of_an_answer(server)
    before, waited = drawn(server), 0.0
    for seed in range(TIMES):
        start, patience = time.monotonic(), chance.uniform(0, 0.8 * whole)
        with begin(server, seed=seed, stream=stream):
            time.sleep(patience)
        waited += time.monotonic() - start
    paid = drawn(server) - before
    due = TOKENS * waited / whole
    print(f"{TIMES} hang-ups: {paid} tokens of {TIMES * TOKENS} drawn, {due:.0f} before, {whole:.2f} s an answer")
    late, token = (paid - due) / TOKENS * whole / TIMES, whole / TOKENS
    print(f"heard {late * 1000:.0f} ms after a hang-up on average; a token takes {token * 1000:.1f} ms")
    assert paid < due + 0.5 * (TIMES * TOKENS - due), "a shared machine is no clock"
