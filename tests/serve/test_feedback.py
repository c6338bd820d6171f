"""Votes through the doors, over a real engine, a real reward model and a real ledger, without Ray."""

import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from starlette.testclient import TestClient

from rlhf_ray.chat import as_prompt
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.ledger import Ledger
from tests.serve.conftest import application, local
from tests.serve.test_doors import ASK, complete, events

from serve.feedback import VOTES_A_MINUTE
from serve.keys import Keys, issue


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("ledger"), "doors") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def web(generator, reward, ledger) -> Iterator[TestClient]:
    with local(application(generator, reward, ledger=ledger)) as client:
        yield client


@pytest.fixture
def user() -> str:
    """Somebody who has not been here before."""
    return secrets.token_hex(4)


def vote(web, name: str, label: int = 1, *, key: str = "", **more):
    headers = {"Idempotency-Key": key} if key else {}
    return web.post("/v1/feedback", json={"completion_id": name, "label": label} | more, headers=headers)


def test_every_choice_is_kept_with_what_is_needed_to_learn_from_it(web, ledger) -> None:
    body = complete(web, prompt=["the quick", "jugs"], n=2, temperature=0.7, top_p=0.9, stop=["zq"], logprobs=0)
    names = [choice["completion_id"] for choice in body["choices"]]
    assert body["id"] == names[0]
    assert len(set(names)) == 4
    digest = web.get("/v1/models/tuned").json()["digest"]
    for name, choice in zip(names, body["choices"], strict=True):
        kept = ledger.completion(name)
        assert kept.completion == choice["text"]
        assert kept.logprobs[: len(choice["logprobs"]["tokens"])] == choice["logprobs"]["token_logprobs"]
        assert len(kept.token_ids) == len(kept.logprobs)
        assert (kept.model_version, kept.model_digest, kept.arm) == (body["system_fingerprint"], digest, "tuned")
        assert (kept.sampling["temperature"], kept.sampling["top_p"], kept.sampling["stop"]) == (0.7, 0.9, ["zq"])
        assert kept.sampling["finish"] == choice["finish_reason"]
    asked = [(ledger.completion(name).prompt, ledger.completion(name).sampling["sample"]) for name in names]
    assert asked == [("the quick", 0), ("the quick", 1), ("jugs", 0), ("jugs", 1)]
    assert ledger.completion(names[0]).seed == ASK["seed"]


def test_a_stream_is_kept_before_its_end_is_told(web, ledger) -> None:
    whole = complete(web, n=2)
    pieces = events(web.post("/v1/completions", json=ASK | {"n": 2, "stream": True}).text)
    parts = [part for piece in pieces for part in piece["choices"]]
    ends = {part["index"]: part["completion_id"] for part in parts if part["finish_reason"]}
    assert {piece["id"] for piece in pieces} == {ends[0]}
    for choice in whole["choices"]:
        streamed, answered = ledger.completion(ends[choice["index"]]), ledger.completion(choice["completion_id"])
        assert streamed.completion == answered.completion == choice["text"]
        assert (streamed.token_ids, streamed.logprobs) == (answered.token_ids, answered.logprobs)


def test_of_best_of_what_is_answered_is_kept_with_its_score(web, ledger) -> None:
    for choice in complete(web, n=2, best_of=4)["choices"]:
        assert ledger.completion(choice["completion_id"]).score == choice["score"]


def test_a_chat_is_kept_as_data_to_train_on_has_it(web, generator, ledger) -> None:
    generator.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}. {% endfor %}"
    user, system = ({"role": role, "content": text} for role, text in (("user", "fox"), ("system", "quick")))
    try:
        for messages, prompt in (([user], "fox"), ([system, user], as_prompt([system, user]))):
            body = web.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 4}).json()
            assert ledger.completion(body["id"]).prompt == prompt
            assert ledger.completion(body["id"]).completion == body["choices"][0]["message"]["content"]
    finally:
        generator.tokenizer.chat_template = None


def test_what_is_asked_again_with_its_key_is_kept_once(web, ledger) -> None:
    ask = {"prompt": "the quick", "max_tokens": 6, "n": 2}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    one, two = (web.post("/v1/completions", json=ask, headers=headers).json() for _ in range(2))
    assert one["choices"] == two["choices"]
    names = [choice["completion_id"] for choice in one["choices"]]
    assert {name: kept.completion for name, kept in ledger.completions(names).items()} == {
        choice["completion_id"]: choice["text"] for choice in one["choices"]
    }


def test_a_vote_is_answered_with_who_spoke_and_what_the_reward_model_thinks(web, ledger, user) -> None:
    body = complete(web)
    answer = vote(web, body["id"], -1, comment="vague", user=user, key="k1")
    assert answer.status_code == 200, answer.text
    pair = {"prompt": "the quick", "completion": body["choices"][0]["text"]}
    (judged,) = web.post("/v1/score", json={"pairs": [pair]}).json()["data"]
    told = answer.json()
    assert {name: told[name] for name in ("score", "probability")} == {
        name: judged[name] for name in ("score", "probability")
    }
    assert (told["id"], told["label"], told["comment"], told["arm"]) == ("k1", -1, "vague", "tuned")
    assert (told["model"], told["version"]) == (body["model"], body["system_fingerprint"])
    (row,) = ledger.live_votes(f"local/{user}")
    assert (row["completion"], row["label"]) == (pair["completion"], -1)
    assert row["judge"] == web.get("/v1/models/reward").json()["version"]


def test_the_last_vote_counts_and_one_sent_again_changes_nothing(web, ledger, user) -> None:
    name = complete(web)["id"]
    vote(web, name, 1, user=user, key="first")
    vote(web, name, -1, user=user, key="second")
    assert vote(web, name, 1, user=user, key="first").status_code == 200, "a try whose answer was lost"
    history = [(row["vote_id"], row["label"], row["live"]) for row in ledger.history(f"local/{user}")]
    assert history == [("first", 1, False), ("second", -1, True)]


def test_people_see_their_own_live_votes_the_newest_first(web, user) -> None:
    names = [complete(web, seed=seed)["id"] for seed in range(3)]
    for name in names:
        vote(web, name, user=user)
    vote(web, names[0], -1, user=user, comment="after all")
    own = web.get("/v1/feedback", params={"limit": 2, "user": user}).json()
    assert [(each["completion_id"], each["label"]) for each in own["data"]] == [(names[0], -1), (names[2], 1)]
    assert own["data"][0]["prompt"] == "the quick"
    assert own["data"][0]["comment"] == "after all"
    assert not web.get("/v1/feedback", params={"user": "nobody"}).json()["data"]
    for limit in ("0", "1001", "x", "", "-1", "9" * 5000):
        assert web.get("/v1/feedback", params={"limit": limit}).status_code == 400


def test_a_vote_on_what_was_not_said_here_is_refused(web, ledger, user) -> None:
    """Ids that were changed in one place, cut, made up, or signed by another server: 0 of 500 are taken."""
    name, chance = complete(web)["id"], Random(0)
    digits = "0123456789abcdef"
    forged = {f"cmpl-{chance.randbytes(30).hex()}" for _ in range(100)}
    while len(forged) < 500:
        place = chance.randrange(5, len(name))
        forged.add(name[:place] + chance.choice(digits) + name[place + 1 :])
        forged.discard(name)
    people = (f"{user}-{number // VOTES_A_MINUTE}" for number in range(10_000))
    answers = [vote(web, each, user=person) for each, person in zip(sorted(forged), people, strict=False)]
    assert {answer.status_code for answer in answers} == {404}
    for odd in ("", "x" * 200, "cmpl-\u0000", "../../etc"):
        assert vote(web, odd, user=user).status_code in (400, 404)
    assert not [row for row in ledger.live_votes() if user in row["person"]]


def test_a_vote_comes_too_late_after_a_day(web, ledger, user, monkeypatch) -> None:
    name, now = complete(web)["id"], ledger.now()
    monkeypatch.setattr(ledger, "now", lambda: now + timedelta(hours=24, minutes=1))
    answer = vote(web, name, user=user)
    assert (answer.status_code, answer.json()["error"]["param"]) == (410, "completion_id")


def test_nobody_votes_faster_than_a_person_can(web, user) -> None:
    name = complete(web)["id"]
    for number in range(VOTES_A_MINUTE):
        assert vote(web, name, (-1) ** number, user=user).status_code == 200
    answer = vote(web, name, user=user)
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    assert vote(web, name, user=f"{user}-else").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"label": True},
        {"label": 0},
        {"label": 1.0},
        {"label": "1"},
        {"label": None},
        {"label": 2**70},
        {"comment": "secret" * 1000},
        {"comment": "\u0000"},
        {"user": ""},
        {"user": "\u202e"},
        {"user": "a" * 129},
        {"person": "secret"},
    ],
)
def test_a_vote_that_is_none_is_refused_in_words_that_repeat_nothing(web, body) -> None:
    answer = web.post("/v1/feedback", json={"completion_id": "c", "label": 1} | body)
    assert answer.status_code == 400
    assert "secret" not in answer.text


def test_a_full_disk_is_said_and_nothing_is_acknowledged(web, ledger, user, monkeypatch) -> None:
    name, told = complete(web)["id"], ledger._segment

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(told, "append", full)
    assert vote(web, name, user=user).status_code == 507
    assert web.post("/v1/completions", json=ASK).status_code == 507
    (*_, last) = web.post("/v1/completions", json=ASK | {"stream": True}).text.strip().split("\n\n")
    assert '"code":507' in last, "a stream ends without its end"
    monkeypatch.undo()
    assert vote(web, name, user=user).status_code == 200
    assert len(ledger.history(f"local/{user}")) == 1


def test_a_closed_ledger_is_a_fault_of_the_servers_that_may_pass(generator, reward, tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "doors") as ledger, local(application(generator, reward, ledger=ledger)) as web:
        name = complete(web)["id"]
        ledger.close()
        assert vote(web, name).status_code == 503
        assert vote(web, name).headers["Retry-After"]


def test_a_damaged_ledger_is_said_and_not_passed_over(generator, reward, tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "doors") as ledger, local(application(generator, reward, ledger=ledger)) as web:
        name = complete(web)["id"]
        compact(tmp_path)
        (part,) = tmp_path.glob("completions/*/*")
        part.write_bytes(part.read_bytes()[:-1])
        assert vote(web, name).status_code == 503
        (tmp_path / "manifest.json").write_text("{")
        assert web.get("/v1/feedback").status_code == web.get("/dashboard/data").status_code == 503


def test_a_vote_counts_without_the_reward_model(generator, ledger, user) -> None:
    with local(application(generator, None, ledger=ledger)) as web:
        told = vote(web, complete(web)["id"], user=user).json()
        assert told["score"] is told["probability"] is None


def test_a_vote_counts_although_the_reward_model_fails(web, reward, ledger, user, monkeypatch) -> None:
    def gone(pairs):
        raise ConnectionError("the replica is gone")

    monkeypatch.setattr(reward, "judge", gone)
    told = vote(web, complete(web)["id"], user=user).json()
    assert told["score"] is told["probability"] is None
    assert len(ledger.live_votes(f"local/{user}")) == 1


def test_without_a_ledger_no_votes_are_taken(generator, reward) -> None:
    with local(application(generator, reward)) as web:
        body = complete(web)
        answers = (vote(web, body["id"]), web.get("/v1/feedback"))
        assert [answer.status_code for answer in answers] == [404, 404]
        assert "without a ledger" in answers[0].json()["error"]["message"]


def test_a_key_is_a_person_and_speaks_for_its_own(generator, reward, ledger, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = {name: issue(path, name, [scope]) for name, scope in (("app", "feedback"), ("other", "generate"))}
    admin = {"Authorization": f"Bearer {issue(path, 'admin', ['admin'])}"}
    with local(application(generator, reward, ledger=ledger, keys=Keys.read(path))) as web:
        name = web.post("/v1/completions", json=ASK, headers=admin).json()["id"]
        asks = {"completion_id": name, "label": 1}
        app, other = ({"Authorization": f"Bearer {keys[name]}"} for name in ("app", "other"))
        assert web.post("/v1/feedback", json=asks).status_code == 401
        assert web.post("/v1/feedback", json=asks, headers=other).status_code == 403
        assert web.post("/v1/feedback", json=asks, headers=app).status_code == 200
        assert web.post("/v1/feedback", json=asks | {"user": "ada"}, headers=app).status_code == 200
        assert {row["person"] for row in ledger.live_votes() if row["completion_id"] == name} == {
            "key:app",
            "key:app/ada",
        }
        assert len(web.get("/v1/feedback", headers=app).json()["data"]) == 1
        assert web.get("/dashboard/data", headers=app).status_code == 403
        assert web.get("/dashboard/data", headers=admin).status_code == 200
