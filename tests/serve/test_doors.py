"""What the doors answer, over a real engine and a real reward model, without Ray."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_ray.chat import as_prompt, plain_ids
from rlhf_ray.config import BadInput
from rlhf_ray.text import encode_pair
from tests.serve.conftest import GENERATION, Counted, application, local

from serve.gate import LARGEST_BODY
from serve.keys import Keys, check_exposed, is_loopback, issue
from serve.verdicts import Pair

ASK = {"prompt": "the quick", "seed": 3, "max_tokens": 8}


def complete(web, **more):
    answer = web.post("/v1/completions", json=ASK | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_completion_names_its_version_its_seed_and_its_cost(web) -> None:
    body = complete(web, n=2, logprobs=2)
    digest = web.get("/v1/models/tuned").json()["digest"]
    assert digest.startswith(body["system_fingerprint"])
    assert body["seed"] == 3
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    for choice in body["choices"]:
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
        assert all(likely <= 0 for likely in choice["logprobs"]["token_logprobs"])
        assert choice["finish_reason"] in ("stop", "length")


def test_a_stream_is_the_same_text_in_pieces(web) -> None:
    whole = complete(web, n=2, logprobs=1)
    answer = web.post(
        "/v1/completions", json=ASK | {"n": 2, "logprobs": 1, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(answer.text)
    for piece in pieces:
        indices = [part["index"] for part in piece["choices"]]
        assert len(indices) == len(set(indices)), "a client reads each index once a chunk"
    for index, choice in enumerate(whole["choices"]):
        mine = [part for piece in pieces for part in piece["choices"] if part["index"] == index]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [each for part in mine for each in part["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
    assert last["usage"] == whole["usage"]


def test_best_of_returns_what_the_reward_model_likes_best(web) -> None:
    every = complete(web, n=6)["choices"]
    pairs = [{"prompt": ASK["prompt"], "completion": choice["text"]} for choice in every]
    scores = [each["score"] for each in web.post("/v1/score", json={"pairs": pairs}).json()["data"]]
    best = complete(web, n=2, best_of=6)["choices"]
    assert [choice["score"] for choice in best] == sorted(scores, reverse=True)[:2]


def test_a_request_sent_again_with_its_key_is_answered_with_the_same_text_and_id(web) -> None:
    ask = {name: value for name, value in ASK.items() if name != "seed"}
    one, two, other = (
        web.post("/v1/completions", json=ask, headers={"Idempotency-Key": key}).json() for key in ("a", "a", "b")
    )
    assert (one["id"], one["seed"], one["choices"]) == (two["id"], two["seed"], two["choices"])
    assert one["id"] != other["id"]


def test_a_chat_without_a_template_says_so_and_with_one_answers(web, generator) -> None:
    ask = {"messages": [{"role": "user", "content": "quick fox"}], "seed": 1, "max_tokens": 4}
    answer = web.post("/v1/chat/completions", json=ask)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    generator.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}. {% endfor %}"
    try:
        body = web.post("/v1/chat/completions", json=ask | {"logprobs": True, "top_logprobs": 1}).json()
        assert body["object"] == "chat.completion"
        told = "".join(each["token"] for each in body["choices"][0]["logprobs"]["content"])
        assert told == body["choices"][0]["message"]["content"]
        pieces = events(web.post("/v1/chat/completions", json=ask | {"stream": True}).text)
        assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
        assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == told
        planted = ask | {"messages": [{"role": "user", "content": "the <eos> fox"}]}
        usage = web.post("/v1/chat/completions", json=planted).json()["usage"]
        assert usage["prompt_tokens"] == len(plain_ids(generator.tokenizer, "the <eos> fox. "))
    finally:
        generator.tokenizer.chat_template = None


def test_a_pair_is_judged_in_the_tokens_that_training_has_for_it(reward, monkeypatch) -> None:
    template = "<eos>{% for m in messages %}{{ m['content'] }}<eos>{% endfor %}"
    monkeypatch.setattr(reward.tokenizer, "chat_template", template)
    for prompt in ("the quick", "the <eos> fox", as_prompt([{"role": "user", "content": "the"}] * 2)):
        ids, _ = encode_pair(reward.tokenizer, prompt, "jumps <eos>", most_tokens=60)
        assert reward.judge([Pair(prompt, "jumps <eos>")])[0].tokens == len(ids)
        assert reward._encode(Pair(prompt, "jumps <eos>")) == ids
    monkeypatch.setattr(reward.tokenizer, "chat_template", "{{ raise_exception('no') }}")
    (refused,) = reward.judge([Pair("the quick", "jumps")])
    assert (refused.status, "chat template" in refused.message) == (400, True)


def test_the_same_pair_gets_the_same_score_in_any_company_and_any_shape(web) -> None:
    texts = ["the dog.", "pack my box with five", "jugs", "zebras jump. how vexingly", "fox"]
    pairs = [{"prompt": "quick ", "completion": text} for text in texts]
    together = web.post("/v1/score", json={"pairs": pairs}).json()["data"]
    for pair, expected in zip(pairs, together, strict=True):
        alone = web.post("/v1/score", json={"pairs": [pair]}).json()["data"][0]
        assert (alone["score"], alone["probability"]) == (expected["score"], expected["probability"])
    likely = [each["probability"] for each in together]
    cross = web.post("/score", json={"text_1": "quick ", "text_2": texts}).json()["data"]
    assert [each["score"] for each in cross] == likely
    results = web.post("/v1/rerank", json={"query": "quick ", "documents": texts, "top_n": 3}).json()["results"]
    assert [each["relevance_score"] for each in results] == sorted(likely, reverse=True)[:3]
    assert [texts[each["index"]] for each in results] == [each["document"]["text"] for each in results]
    (classified,) = web.post("/classify", json={"input": "the lazy dog."}).json()["data"]
    assert sum(classified["probs"]) == pytest.approx(1)
    assert classified["label"] == ("up" if classified["probs"][1] >= 0.5 else "down")


BAD = {
    "not JSON": b"{",
    "no object": b"[]",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "1e999": b'{"prompt": "a", "temperature": 1e999}',
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "NUL": b'{"prompt": "\\u0000"}',
    "bytes that are no text": b'{"prompt": "\xff"}',
    "an integer of 5,000 digits": b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    "depth": b'{"prompt": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a bool for a number": b'{"prompt": "a", "max_tokens": true}',
    "a key of the client's": b'{"prompt": "a", "<script>secret</script>": 1}',
    "too many tokens": b'{"prompt": "a", "max_tokens": 25}',
    "too many samples": b'{"prompt": "a", "n": 9}',
    "a prompt that is too long": json.dumps({"prompt": "secret " * 100}).encode(),
    "no prompt": b'{"prompt": ""}',
    "a tiny temperature": b'{"prompt": "a", "temperature": 1e-300}',
    "another model": b'{"prompt": "a", "model": "secret"}',
    "best_of below n": b'{"prompt": "a", "n": 3, "best_of": 2}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_in_few_words_that_repeat_nothing(web, body: bytes) -> None:
    answer = web.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert len(answer.content) <= 1024
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in answer.text


def test_a_body_is_not_read_beyond_its_limit(web) -> None:
    read = 0

    def chunks():
        nonlocal read
        for _ in range(1000):
            read += 4096
            yield b" " * 4096

    header = {"Content-Type": "application/json"}
    assert web.post("/v1/completions", content=b" " * (LARGEST_BODY + 1), headers=header).status_code == 413
    assert web.post("/v1/completions", content=chunks(), headers=header).status_code == 413


def test_only_json_that_says_so_is_read(web) -> None:
    assert (
        web.post("/v1/completions", content=json.dumps(ASK), headers={"Content-Type": "text/plain"}).status_code == 415
    )


def test_beyond_the_queue_a_request_is_sent_away_until_later(web, generator) -> None:
    free, generator.engine.free = generator.engine.free, []
    try:
        answer = web.post("/v1/completions", json=ASK | {"n": 5})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    finally:
        generator.engine.free = free


def test_more_than_there_is_ever_room_for_is_a_mistake_and_not_a_matter_of_time(web) -> None:
    most = GENERATION.room
    assert complete(web, prompt=["a"] * (most // 2), max_tokens=1)["choices"]
    answer = web.post("/v1/completions", json=ASK | {"prompt": ["a"] * (most // 2 + 1), "n": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert str(most) in answer.json()["error"]["message"]


def test_where_one_prompt_is_refused_nobody_says_the_others(web, generator) -> None:
    drawn = generator.engine.drawn
    prompts = ["a", "much too long " * 100]
    answer = web.post("/v1/completions", json=ASK | {"prompt": prompts, "max_tokens": GENERATION.response_tokens})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    while generator.engine.rows or generator.engine.waiting:
        pass
    assert generator.engine.drawn - drawn < GENERATION.response_tokens


def test_best_of_without_a_reward_model_is_refused_before_anything_is_said(generator) -> None:
    drawn = generator.engine.drawn
    with local(application(generator, None)) as web:
        answer = web.post("/v1/completions", json=ASK | {"n": 1, "best_of": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "best_of")
    assert generator.engine.drawn == drawn


@pytest.mark.parametrize(
    ("door", "body", "field"),
    [
        ("completions", {"prompt": "\u0000"}, "prompt"),
        ("completions", {"prompt": ["a", "\u0000"]}, "prompt.1"),
        ("completions", {"prompt": "a", "echo": True}, "echo"),
        ("chat/completions", {"messages": [{"role": "user", "content": "\u0000"}]}, "messages.0.content"),
    ],
)
def test_a_mistake_is_named_by_its_field(web, door: str, body: dict, field: str) -> None:
    answer = web.post(f"/v1/{door}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert error["message"].startswith(f"{field}: ")
    assert "^" not in error["message"], "no pattern of ours"


def test_a_request_that_takes_too_long_is_ended(generator, reward) -> None:
    count = Counted()
    with local(application(generator, reward, timeout_s=1e-4, count=count)) as web:
        assert web.post("/v1/completions", json=ASK).status_code == 408
    assert count.seen == [("/v1/completions", 408)]


def test_a_key_opens_the_doors_of_its_scopes(generator, reward, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    scorer, admin = issue(path, "scorer", ["score"]), issue(path, "admin", ["admin"])
    assert scorer not in path.read_text(encoding="utf-8")
    body = {"pairs": [{"prompt": "a", "completion": "b"}]}
    with local(application(generator, reward, keys=Keys.read(path))) as web:
        for key, statuses in {"": (401, 401), "wrong": (401, 401), scorer: (403, 200), admin: (200, 200)}.items():
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answers = (
                web.post("/v1/completions", json=ASK, headers=headers),
                web.post("/v1/score", json=body, headers=headers),
            )
            assert tuple(answer.status_code for answer in answers) == statuses
            assert web.get("/healthz", headers=headers).status_code == 200
            assert web.get("/somewhere", headers=headers).status_code in (401, 403, 404)


def test_without_keys_only_this_machine_is_answered(generator, reward) -> None:
    from starlette.testclient import TestClient

    app = application(generator, reward)
    for client, host in (("10.0.0.7", "127.0.0.1"), ("127.0.0.1", "evil.example")):
        with TestClient(app, base_url=f"http://{host}", client=(client, 1)) as web:
            assert web.get("/v1/models").status_code == 403
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposed(host, "none")
    for host in ("0.0.0.0", "::", "10.0.0.7", "example.org", None):  # noqa: S104
        assert not is_loopback(host)
        with pytest.raises(BadInput, match=r"^keys: expected a file"):
            check_exposed(host, "none")
        check_exposed(host, "keys.json")


def test_the_description_knows_every_body(web) -> None:
    described = web.get("/openapi.json").json()
    schema = described["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]["temperature"]


def test_the_doors_of_health_answer(web) -> None:
    assert web.get("/healthz").status_code == web.get("/readyz").status_code == 200
    assert web.head("/healthz").status_code == web.head("/readyz").status_code == 200
    answer = web.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize("module", ["serve.ingress", "serve.compactor"])
def test_who_serves_no_model_imports_none(module: str) -> None:
    """Torch and transformers take five seconds and 400 MiB, which a replica that was killed would need again."""
    heavy = {"torch", "transformers", "sklearn", "scipy", "datasets"}
    code = f"import sys, {module}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stdout + done.stderr
