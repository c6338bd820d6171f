"""Promotion and rollback in one process: real models, a real file, and every way in which a run is not fit."""

import asyncio
import math
import re
import secrets
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlhf_ray.config import BadInput
from tests.serve.house import House, serving
from tests.serve.runs import save_run, save_runs

from serve.app import build, versions_of
from serve.errors import Refused
from serve.generator import joined_by_sample
from serve.orders import Order
from serve.split import arm_of, check_split

ASK = {"prompt": "the quick", "seed": 3, "max_tokens": 16}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, policy_folder: str) -> Path:
    """Three finished runs, and some that are not fit to be served."""
    folder = save_runs(tmp_path_factory.mktemp("runs"), policy_folder, 3)
    save_run(folder / "endless", policy_folder, seed=4, ends=-50)
    save_run(folder / "mute", policy_folder, seed=5, ends=50)
    save_run(folder / "no-number", policy_folder, seed=6, change=lambda model: model.lm_head.weight.fill_(math.nan))
    save_run(folder / "no-reward", policy_folder, seed=7, reward=False)
    return folder


@pytest.fixture
def house(runs: Path, tmp_path: Path) -> Iterator[House]:
    house = House(serving(runs, tmp_path / "served" / "versions.json"))
    yield house
    house.close()


def version(web: TestClient, name: str = "tuned") -> str:
    return web.get(f"/v1/models/{name}").json()["version"]


def say(web: TestClient, **more: Any) -> tuple[str, str]:
    """The version that answers, and what it says."""
    answer = web.post("/v1/completions", json=ASK | more)
    assert answer.status_code == 200, answer.text
    return answer.json()["system_fingerprint"], answer.json()["choices"][0]["text"]


def test_a_promoted_run_answers_from_then_on_and_a_rollback_returns(house: House, runs: Path) -> None:
    with house.doors() as web:
        before, sft, reward = say(web), version(web, "sft"), version(web, "reward")
        told = web.post("/admin/promote", json={"run": str(runs / "run-2")}).json()
        after = say(web)
        assert after[0] == version(web) == told["serving"]["models"]["tuned"]["version"] != before[0]
        assert after[1] != before[1]
        assert version(web, "sft") == sft, "the baseline stays"
        assert version(web, "reward") != reward, "a run's reward model comes with it"
        score = web.post("/v1/score", json={"pairs": [{"prompt": "a", "completion": "b"}]}).json()
        assert "error" not in score, score
        assert score["system_fingerprint"] == version(web, "reward")
        assert told["previous"]["models"]["tuned"]["version"] == before[0]
        web.post("/admin/promote", json={"run": "run-3"})
        third = say(web)
        for expected in (after, before):
            assert back(web).status_code == 200
            assert say(web) == expected
        refused = back(web)
        assert (refused.status_code, third) != (200, after)
        assert refused.json()["error"]["message"].startswith("expected something to go back to")
        history = web.get("/admin/versions").json()["history"]
        assert [turn["action"] for turn in history] == ["rollback", "rollback", "promote", "promote"]
        assert [turn["by"] for turn in history] == ["local"] * 4
        assert [turn["versions"]["tuned"] for turn in history] == [before[0], after[0], third[0], after[0]]


def back(web: TestClient) -> Any:
    return web.post("/admin/rollback", json={}, headers={"Idempotency-Key": secrets.token_hex(8)})


UNFIT = {
    "endless": "tuned .*: expected at least 50% of its answers to end by themselves, got 0%",
    "mute": "tuned .*: expected answers of at least 2 tokens on average",
    "no-number": "tuned .*: (expected answers with finite log-probabilities|it could not be used)",
    "no-reward": "reward/manifest.json: expected a manifest",
    "no-such-run": "run: expected the folder of a finished run in .*, got none",
    "../../../etc": "run: expected the folder of a finished run in .*, got none",
    "/": "run: expected the folder of a finished run in .*, got none",
}


@pytest.mark.parametrize("run", UNFIT)
def test_a_run_that_is_not_fit_leaves_what_is_served(house: House, run: str) -> None:
    with house.doors() as web:
        before = say(web)
        refused = web.post("/admin/promote", json={"run": run})
        assert refused.status_code == 409
        message = refused.json()["error"]["message"]
        assert re.search(UNFIT[run], message), message
        assert message.endswith("; what was served goes on")
        assert say(web) == before
        assert web.get("/admin/versions").json()["history"] == []
        assert len(house.replicas["tuned"].shelf.held) == 1, "what is not fit is let go at once"


def flip(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-7] ^= 1
    file.write_bytes(whole)


def test_a_flipped_bit_is_not_served_and_not_returned_to(house: House, runs: Path, policy_folder: str) -> None:
    damaged = save_run(runs / "damaged", policy_folder, seed=8)
    weights, shelf = damaged / "ppo" / "policy" / "model.safetensors", house.replicas["tuned"].shelf
    with house.doors() as web:
        flip(weights)
        refused = web.post("/admin/promote", json={"run": "damaged"})
        assert "expected the files that the run left" in refused.json()["error"]["message"]
        flip(weights)
        for run in ("damaged", "run-2"):
            assert web.post("/admin/promote", json={"run": run}).status_code == 200
        before = say(web)
        web.portal.call(partial(shelf.keep, house.versions.now()["tuned"].digest, linger_s=0))
        flip(weights)
        refused = back(web)
        assert "expected the files that the run left" in refused.json()["error"]["message"]
        assert say(web) == before
    shutil.rmtree(damaged)


def test_who_has_begun_ends_on_the_model_he_began_with_and_then_it_is_let_go(house: House, runs: Path) -> None:
    replica, order = house.replicas["tuned"], Order("the quick", seed=5, samples=2, most_tokens=24)
    model = weakref.ref(next(iter(replica.shelf.held.values())).engine.slots.model)

    async def promote_in_the_middle() -> None:
        begun = replace(order, model=house.versions.now()["tuned"])
        whole = (await replica.complete(begun)).said
        stream = replica.stream(begun)
        pieces = [await anext(stream)]
        await house.promotion.promote("run-2", "me", "")
        await replica.shelf.keep(replica.about().digest, linger_s=0)
        pieces += [answer async for answer in stream]
        assert {answer.version for answer in pieces} == {begun.model.version} != {replica.about().version}
        joined = joined_by_sample([said for answer in pieces for said in answer.said])
        assert sorted(joined, key=lambda said: said.sample) == whole
        await replica.shelf.keep(replica.about().digest, linger_s=0)

    asyncio.run(promote_in_the_middle())
    asyncio.run(replica.check_health())  # the thread that closed it may have held it a moment longer
    assert model() is None
    assert list(replica.shelf.held) == [replica.about().digest]


def test_a_restarted_server_comes_up_with_what_was_promoted(house: House, runs: Path) -> None:
    asyncio.run(house.promotion.promote("run-2", "me", ""))
    config = house.config
    again = House(config)
    assert again.versions.now() == house.versions.now() != versions_of(serving(runs, "none")).now()
    again.close()
    config = serving(runs, config.versions, run="run-3")
    assert versions_of(config).now()["sft"].version != house.versions.now()["sft"].version
    assert versions_of(config).now()["tuned"] == house.versions.now()["tuned"], "a promotion outlives the file's run"
    Path(config.versions).write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="expected the versions that are served, got a damaged file"):
        versions_of(config)
    assert again.versions.now() == house.versions.now(), "whoever serves already goes on"
    with pytest.raises(Refused, match="damaged file; what was served goes on"):
        asyncio.run(house.promotion.promote("run-3", "me", ""))


def test_what_was_promoted_and_is_gone_is_said_at_the_start(house: House, runs: Path, policy_folder: str) -> None:
    gone = save_run(runs / "gone", policy_folder, seed=9)
    asyncio.run(house.promotion.promote("gone", "me", ""))
    shutil.rmtree(gone)
    with pytest.raises(BadInput, match=r"gone/ppo.* expected a manifest, found none"):
        versions_of(house.config)


def test_what_is_sent_twice_counts_once(house: House) -> None:
    with house.doors() as web:
        for run in ("run-2", "run-3", "run-3"):
            assert web.post("/admin/promote", json={"run": run}).status_code == 200
        for _ in range(2):
            told = web.post("/admin/rollback", json={}, headers={"Idempotency-Key": "once"}).json()
        assert told["serving"]["run"].endswith("run-2")
        assert [turn["action"] for turn in told["history"]] == ["rollback", "promote", "promote"]
        assert web.post("/admin/rollback", json={}).status_code == 400, "which could come twice"


def test_one_change_at_a_time(house: House) -> None:
    async def twice() -> list[Any]:
        calls = (house.promotion.promote(run, "me", "") for run in ("run-2", "run-3"))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second = asyncio.run(twice())
    assert first["serving"]["run"].endswith("run-2")
    assert str(second) == "expected one change at a time, got one while another is under way"


def test_where_nothing_can_be_written_nothing_turns(runs: Path, tmp_path: Path) -> None:
    (tmp_path / ".versions.json.tmp").mkdir()
    for versions, status in ((tmp_path / "versions.json", 507), ("none", 409)):
        house = House(serving(runs, versions))
        with house.doors() as web:
            before = say(web)
            assert web.post("/admin/promote", json={"run": "run-2"}).status_code == status
            assert say(web) == before
        house.close()


def test_no_name_leads_out_of_the_folder_of_runs(house: House, runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(runs / "run-2", outside)
    (runs / "link").symlink_to(outside)
    names = [str(outside), "link", "run-2/../../outside", "~", "\\..", "..", ".", "", "/", "run-2\n", "%2e%2e/outside"]
    names += ["/".join([*[".."] * depth, *outside.parts[1:]]) for depth in range(50)]
    names += [
        f"{dots}{slash}{outside.name}" for dots in ("..", "...", "․․", "..;", "%2e%2e") for slash in ("/", "//", "/./")
    ]
    names += ["a" * 1000, "/".join(["a" * 100] * 10), "run-2" + "/." * 400 + "/" + "../" * 60 + "outside"]
    for name in names:
        with pytest.raises(BadInput, match="expected the folder of a finished run in"):
            house.promotion._release(name)
    (runs / "link").unlink()


def test_a_person_stays_with_an_arm_and_shares_are_kept(house: House) -> None:
    split = {"tuned": 0.9, "sft": 0.1}
    people = [f"key:app/{number}" for number in range(5000)]
    arms = {person: arm_of(person, split) for person in people}
    assert sum(arm == "sft" for arm in arms.values()) == pytest.approx(500, abs=70)  # three standard deviations
    narrower = {person: arm_of(person, {"tuned": 0.95, "sft": 0.05}) for person in people}
    assert not [person for person in people if arms[person] == "tuned" != narrower[person]], "only a few move"
    with house.doors(split=split) as web:
        for user in ("ann", "bob", "eve", "joe", "kim", "sam", "tom", "uma", "zoe"):
            expected = arm_of(f"local/{user}", split)
            for _ in range(2):
                answer = web.post("/v1/completions", json=ASK | {"user": user}).json()
                assert answer["model"] == expected
            assert web.post("/v1/completions", json=ASK | {"user": user, "model": "sft"}).json()["model"] == "sft"


def test_a_split_names_what_is_served_and_is_a_whole(runs: Path) -> None:
    for split, wrong in (
        ({"tuned": 0.5, "other": 0.5}, r"split.other: expected one of tuned, sft, got a model that is not served"),
        ({"tuned": 0.5, "sft": 0.4}, r"split: expected shares that add up to 1, got 0.9"),
        ({"reward": 1.0}, r"split.reward: expected one of tuned, sft"),
    ):
        with pytest.raises(BadInput, match=f"^{wrong}"):
            versions_of(serving(runs, "none", split=split))
    with pytest.raises(BadInput, match=r"split\.tuned"):
        serving(runs, "none", split={"tuned": 0.0, "sft": 1.0})
    check_split({}, {})


def test_the_reward_model_stays_where_it_is_not_the_runs(runs: Path, tmp_path: Path) -> None:
    config = serving(runs, tmp_path / "versions.json", reward=str(runs / "run-3" / "reward"))
    bound = build(config.model_dump())._bound_deployment  # what Ray Serve is given
    assert bound.init_kwargs["promoted"] == ["tuned"]
