"""Rewards that are not the run's model: what they hear, what they may answer, and how a bad answer is said."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.alarm import NotFinite, Tripped
from rlhf_ray.config import BadInput, load
from rlhf_ray.experience import Rollout
from rlhf_ray.text import decode_prompts, decode_responses
from rlhf_ray.workers import reward_server
from rlhf_ray.workers.rewards import Reward, check_functions, fingerprints
from rlhf_ray.workers.scorer import Scorer, Scoring

MINE = """
import numpy, torch

CONSTANT = 3

def length(prompts, completions):
    return [len(completion) for completion in completions]

def ones(prompts, completions):
    return numpy.ones(len(prompts), dtype=numpy.float32)

def tensor(prompts, completions):
    return torch.ones(len(prompts))

def nothing(prompts, completions):
    return None

def short(prompts, completions):
    return [1.0]

def hole(prompts, completions):
    return [1.0, None, 1.0]

def infinite(prompts, completions):
    return [1.0, 1.0, float("inf")]

def broken(prompts, completions):
    raise KeyError("mine")

def no_arguments():
    return []

def leaving(prompts, completions):
    raise SystemExit(7)

def huge(prompts, completions):
    return [1.0, 10**400, 1.0]

def tensors(prompts, completions):
    return [torch.tensor(1.0)] * len(prompts)

class Reward:
    pass
"""


@pytest.fixture(autouse=True)
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(5)\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def x(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(reward_server, "FIRST_PAUSE", 0.01)


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    return rollout_of([[5, 6], [7], [8]], [[20, 21, 0], [22, 23, 24], [25, 0]], prompt_width=3)


Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Rewarder:
    """A server on loopback that answers as the test says; `heard` is what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heard: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.answer(self, outer.heard[-1])

            def log_message(self, *_: Any) -> None:
                """Tests are quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Rewarder]]:
    servers: list[Rewarder] = []

    def start(answer: Answer) -> Rewarder:
        servers.append(Rewarder(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def reply(handler: BaseHTTPRequestHandler, body: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body.encode())


def saying(body: str, status: int = 200, **headers: str) -> Answer:
    return lambda handler, _: reply(handler, body, status, **headers)


def lengths(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    reply(handler, json.dumps({"scores": [len(text) for text in asked["completions"]]}))


@pytest.fixture
def scorer(policy_folder: str, reward_folder: str) -> Callable[..., Scorer]:
    def scorer(clip: float = 1e6, **kinds: Any) -> Scorer:
        scoring = Scoring.model_validate({"rewards": kinds, "clip": clip, "missing_eos_penalty": 0.5})
        return Scorer(reward_folder, policy_folder, scoring, 1.0)

    return scorer


def test_a_function_hears_the_texts_and_its_numbers_are_the_score(
    scorer: Callable, rollout: Rollout, tokenizer: PreTrainedTokenizerBase
) -> None:
    scored = scorer(mine={"source": "my_rewards:length"}).score(rollout)
    expected = [float(len(text)) for text in decode_responses(tokenizer, rollout)]
    assert scored.parts[:, 0].tolist() == expected
    assert scored.score.tolist() == [expected[0], expected[1] - 0.5, expected[2]]  # the second did not end


@pytest.mark.parametrize("name", ["ones", "tensor"])
def test_arrays_and_tensors_are_numbers_too(scorer: Callable, rollout: Rollout, name: str) -> None:
    assert scorer(mine={"source": f"my_rewards:{name}"}).score(rollout).parts.tolist() == [[1.0]] * 3


def test_the_score_is_the_weighted_sum_of_all_rewards(scorer: Callable, rollout: Rollout) -> None:
    kinds = {
        "model": {},
        "length": {"source": "my_rewards:length", "weight": -0.25},
        "one": {"source": "my_rewards:ones", "weight": 2},
    }
    scored = scorer(**kinds).score(rollout)
    alone = [scorer(one=kind | {"weight": 1}).score(rollout).parts[:, 0] for kind in kinds.values()]
    assert torch.equal(scored.parts, torch.stack(alone, dim=1))
    expected = scored.parts @ torch.tensor([1.0, -0.25, 2.0]) - 0.5 * ~rollout.ended
    torch.testing.assert_close(scored.score, expected)


def test_the_sum_is_clipped_and_the_penalty_comes_after(scorer: Callable, rollout: Rollout) -> None:
    scored = scorer(clip=0.5, one={"source": "my_rewards:ones"}).score(rollout)
    assert scored.score.tolist() == [0.5, 0.0, 0.5]
    assert scored.clipped.tolist() == [True] * 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"my_rewards:nothing: expected a list of 3 numbers, one a response, got None"),
        ("short", r"expected a list of 3 numbers, one a response, got list of 1"),
        ("hole", r"expected a number for sample 1, got None"),
        ("infinite", r"the reward 'mine' gave inf for sample 2"),
        ("huge", r"the reward 'mine' gave inf for sample 1"),
        ("tensors", r"expected a number for sample 0, got tensor\(1.\)"),
    ],
)
def test_an_answer_that_is_no_number_names_the_sample(scorer: Callable, rollout: Rollout, name: str, said: str) -> None:
    with pytest.raises(NotFinite if "gave inf" in said else Tripped, match=said):
        scorer(mine={"source": f"my_rewards:{name}"}).score(rollout)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", r"my_rewards:broken: raised KeyError: 'mine' in my_rewards.py, line \d+; asked for samples 0 to 2"),
        ("no_arguments", r"my_rewards:no_arguments: raised TypeError: .* takes 0 positional arguments"),
        ("leaving", r"my_rewards:leaving: raised SystemExit: 7 in my_rewards.py"),
    ],
)
def test_a_fault_of_ones_own_function_is_one_line_that_says_where(
    scorer: Callable, rollout: Rollout, name: str, said: str
) -> None:
    with pytest.raises(Tripped, match=said) as caught:
        scorer(mine={"source": f"my_rewards:{name}"}).score(rollout)
    assert "\n" not in str(caught.value)


def test_a_server_hears_the_texts_and_its_numbers_are_the_score(
    scorer: Callable, rollout: Rollout, tokenizer: PreTrainedTokenizerBase, serve: Callable
) -> None:
    server = serve(lengths)
    scored = scorer(remote={"source": server.url}).score(rollout)
    completions = decode_responses(tokenizer, rollout)
    assert server.heard == [{"prompts": decode_prompts(tokenizer, rollout.prompt), "completions": completions}]
    assert scored.parts[:, 0].tolist() == [len(text) for text in completions]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_down_for_a_moment_is_asked_again(
    scorer: Callable, rollout: Rollout, serve: Callable, status: int
) -> None:
    def answer(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        if len(server.heard) < 3:
            reply(handler, "", status)
        else:
            lengths(handler, asked)

    server = serve(answer)
    scorer(remote={"source": server.url, "tries": 3}).score(rollout)
    assert len(server.heard) == 3
    assert server.heard[0] == server.heard[2]


@pytest.mark.parametrize(
    ("answer", "said", "asked"),
    [
        (saying("", 503), r"no answer in 2 tries \(status 503\); asked for samples 0 to 2", 2),
        (saying("", 404), r"expected status 200, got 404", 1),
        (saying("not json"), r"expected JSON, got b'not json'", 1),
        (saying("[" * 100_000), r"expected JSON, got b'\[\[\[", 1),
        (saying("[1, 2, 3]"), r'expected \{"scores": \[…\]\}, got another form', 1),
        (saying('{"scores": [1, 2]}'), r"expected a list of 3 numbers, one a response, got list of 2", 1),
        (saying('{"scores": [1, "2", 3]}'), r"expected a number for sample 1, got str of 1", 1),
        (saying('{"scores": [1, 2, NaN]}'), r"the reward 'remote' gave nan for sample 2", 1),
        (saying(f'{{"scores": [1, {"9" * 400}, 3]}}'), r"the reward 'remote' gave inf for sample 1", 1),
        (saying(" " * (2**20 + 1)), r"expected an answer of at most 1048576 bytes, got more", 1),
    ],
)
def test_a_server_that_answers_wrongly_is_named_with_the_sample(
    scorer: Callable, rollout: Rollout, serve: Callable, answer: Answer, said: str, asked: int
) -> None:
    server = serve(answer)
    with pytest.raises(Tripped, match=said):
        scorer(remote={"source": server.url, "tries": 2}).score(rollout)
    assert len(server.heard) == asked


def test_no_redirect_is_followed(scorer: Callable, rollout: Rollout, serve: Callable) -> None:
    other = serve(lengths)
    first = serve(saying("", 307, Location=other.url))
    with pytest.raises(Tripped, match=r"got 307 \(redirects are not followed\)"):
        scorer(remote={"source": first.url}).score(rollout)
    assert other.heard == []


def silent(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    time.sleep(1.5)


def dripping(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _step in range(15):
        try:
            handler.wfile.write(b" ")
        except OSError:  # the client has gone, as it should
            return
        time.sleep(0.1)


def dripping_headers(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    for number in range(15):
        try:
            handler.wfile.write(f"X-Drop-{number}: 1\r\n".encode())
        except OSError:
            return
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [silent, dripping, dripping_headers])
def test_the_wait_for_a_server_is_bounded(scorer: Callable, rollout: Rollout, serve: Callable, answer: Answer) -> None:
    scorer = scorer(remote={"source": serve(answer).url, "timeout_s": 0.3, "tries": 2})
    begin = time.monotonic()
    with pytest.raises(Tripped, match=r"no answer in 2 tries"):
        scorer.score(rollout)
    assert time.monotonic() - begin < 1.4  # the server itself would have taken longer


def test_a_server_that_is_not_there_is_named(scorer: Callable, rollout: Rollout, serve: Callable) -> None:
    server = serve(lengths)
    server.server.server_close()
    with pytest.raises(Tripped, match=rf"{server.url}: no answer in 1 tries"):
        scorer(remote={"source": server.url, "tries": 1}).score(rollout)


@pytest.mark.parametrize(
    "source",
    ["modell", "my_rewards:", "ftp://host/x", "file:///x", "http://", "a b:c", "http://h:99999/", "http://me:pw@host/"],
)
def test_a_source_of_an_unknown_kind_is_an_error(tmp_path: Path, source: str) -> None:
    config = tmp_path / "scoring.yaml"
    config.write_text(json.dumps({"rewards": {"mine": {"source": source}}}), encoding="utf-8")
    with pytest.raises(BadInput, match=r"rewards\.mine\.source: .*expected model, module:function or an http\(s\) URL"):
        load(Scoring, config)


@pytest.mark.parametrize(
    "source",
    [
        "no_such_module:length",
        "my_rewards:no_such_function",
        "my_rewards:CONSTANT",
        "my_rewards:Reward",
        "ends:x",
        "broken:x",
    ],
)
def test_a_function_that_is_not_there_is_noticed_at_the_door(source: str) -> None:
    with pytest.raises(BadInput, match=r"scoring\.rewards\.mine\.source: expected a function that can be imported"):
        check_functions({"mine": Reward(source=source)})


def test_functions_that_are_there_pass_the_door() -> None:
    check_functions({"mine": Reward(source="my_rewards:length"), "model": Reward()})


def test_another_text_of_a_functions_module_has_another_fingerprint(tmp_path: Path) -> None:
    module = tmp_path / "rewards_that_change.py"
    module.write_text(MINE, encoding="utf-8")
    mine = {"mine": Reward(source="rewards_that_change:length"), "model": Reward()}
    before = fingerprints(mine)
    assert list(before) == ["rewards_that_change:length"]
    module.write_text(MINE + "\n", encoding="utf-8")
    assert fingerprints(mine) != before
