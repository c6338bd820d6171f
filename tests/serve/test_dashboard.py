"""The page's questions and the dashboard's figures, over real engines and a real ledger."""

from collections.abc import Iterator
from time import sleep

import pytest
from starlette.testclient import TestClient

from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from tests.serve.conftest import application, local

from serve.artefact import artefact
from serve.asking import prompt_of
from serve.generation import Generation
from serve.generator import Generator
from serve.schemas import AskBody


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("ledger"), "doors") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def web(policy_folder: str, reward, ledger) -> Iterator[TestClient]:
    """Tuned and sft, which have room for an analysis' prompt."""
    generation = Generation(slots=4, prompt_tokens=56, response_tokens=8, queue=4)
    speakers = {name: Generator(artefact(name, policy_folder), generation) for name in ("tuned", "sft")}
    with local(application(speakers["tuned"], reward, ledger=ledger, speakers=speakers)) as client:
        yield client
    for speaker in speakers.values():
        speaker.engine.close()


def ask(web, **more):
    answer = web.post("/page/answers", json={"incident": "fox"} | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_question_is_asked_in_the_words_of_training() -> None:
    body = AskBody(incident=" API latency\n spike. ", evidence="- the pool is full\n\n  restarts  help \n")
    assert prompt_of(body) == (
        "Provide a Root Cause Analysis for the recent API latency spike.\n- the pool is full\n- restarts help\n"
    )


def test_an_answer_does_not_say_whose_it_is_before_the_vote(web, ledger) -> None:
    (one,) = ask(web)["answers"]
    assert ledger.completion(one["completion_id"]).completion == one["text"]
    seen = set()
    for _ in range(12):
        told = ask(web, side_by_side=True)
        assert set(told["answers"][0]) == {"completion_id", "text"}
        kept = [ledger.completion(each["completion_id"]) for each in told["answers"]]
        assert {each.arm for each in kept} == {"tuned", "sft"}
        assert len({each.pair for each in kept}) == 1
        assert kept[0].pair
        seen.add(kept[0].arm)
    assert seen == {"tuned", "sft"}, "in random order"


def test_a_question_asked_again_with_its_key_gets_the_same_answers(web) -> None:
    body = {"incident": "fox", "side_by_side": True}
    first, again = (web.post("/page/answers", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("more", [{"incident": ""}, {"incident": "secret" * 99}, {"evidence": "secret\n" * 99}])
def test_what_cannot_be_asked_is_said(web, more) -> None:
    answer = web.post("/page/answers", json={"incident": "fox"} | more)
    assert answer.status_code == 400
    assert "secret" not in answer.text


def test_two_sides_need_two_models(generator, reward, ledger) -> None:
    with local(application(generator, reward, ledger=ledger)) as web:
        answer = web.post("/page/answers", json={"incident": "fox", "side_by_side": True})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "side_by_side")


def test_the_dashboard_counts_each_vote_once_wherever_it_lies(web, ledger) -> None:
    told = ask(web, side_by_side=True)["answers"]
    arms = {each["completion_id"]: ledger.completion(each["completion_id"]).arm for each in told}
    for name, arm in arms.items():
        for label in (-1, 1 if arm == "tuned" else -1):  # tuned is liked after all
            web.post("/v1/feedback", json={"completion_id": name, "label": label, "user": "dash"})
    first = web.get("/dashboard/data").json()
    compact(ledger.folder)
    second = web.get("/dashboard/data").json()
    for told in (first, second):
        assert [(each["model"], each["votes"], each["ups"]) for each in told["models"]] == [
            ("sft", 1, 0),
            ("tuned", 1, 1),
        ]
        assert (told["comparison"]["pairs"], told["comparison"]["wins"]) == (1, 1)
        assert sum(point["ups"] + point["downs"] for point in told["votes_over_time"]["points"]) == 2
        assert told["reward"]["votes"] == 2
        assert told["reward"]["version"] == web.get("/v1/models/reward").json()["version"]
    latency = {each["door"]: each for each in second["latency"]}
    assert latency["/page/answers"]["p99_ms"] >= latency["/page/answers"]["p50_ms"] > 0
    assert [(each["model"], each["slots"]) for each in second["load"]["models"]] == [("tuned", 4), ("sft", 4)]
    assert second["load"]["requests"] > first["load"]["requests"]


def test_votes_are_counted_when_there_are_new_ones_only(web, monkeypatch) -> None:
    counted, read = [], Reader.live_facts
    monkeypatch.setattr(Reader, "live_facts", lambda reader: counted.append(1) or read(reader))
    name = ask(web)["answers"][0]["completion_id"]
    for _ in range(5):
        web.get("/dashboard/data")
    web.post("/v1/feedback", json={"completion_id": name, "label": 1})
    for _ in range(5):
        web.get("/dashboard/data")
    assert len(counted) == 2


def test_a_long_count_is_followed_by_a_long_pause(web, monkeypatch) -> None:
    counted, read = [], Reader.live_facts
    monkeypatch.setattr(Reader, "live_facts", lambda reader: counted.append(sleep(0.22)) or read(reader))
    for _ in range(5):
        ask(web)
        web.get("/dashboard/data")
    assert len(counted) == 1
    sleep(2.3)
    web.get("/dashboard/data")
    assert len(counted) == 2
