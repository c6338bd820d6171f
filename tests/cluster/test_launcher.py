"""The files of `ray up`, held to Ray's own schema, and the commands in them to Ray's own command line."""

import re
from typing import Any

import pytest
import ray.scripts.scripts as command_line
from ray.autoscaler._private.util import prepare_config, validate_config

from rlhf_ray.config import load
from rlhf_ray.distributed.placement import Machine, lack, plan
from rlhf_ray.runs import RunConfig

from .conftest import CLUSTER, ROOT, read

FILES = ["local.yaml", "onprem.yaml", "gpu.yaml"]
EVERYTHING = sorted(path for path in CLUSTER.rglob("*") if path.is_file())


def commands_of(config: dict[str, Any]) -> list[str]:
    kinds = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    return [command for kind in kinds for command in config.get(kind, [])]


@pytest.mark.parametrize("name", FILES)
def test_ray_up_takes_the_file(name: str) -> None:
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_up_refuses_a_misspelt_key(name: str) -> None:
    config = read(name)
    for key in config:
        other = {f"{each}s" if each == key else each: value for each, value in config.items()}
        with pytest.raises((Exception, SystemExit)):
            validate_config(prepare_config(other))


@pytest.mark.parametrize("name", FILES)
def test_every_node_has_the_token_and_uses_it(name: str) -> None:
    config = read(name)
    assert "~/.ray/auth_token" in config["file_mounts"].values()
    in_container = "--env RAY_AUTH_MODE=token" in config.get("docker", {}).get("run_options", [])
    starts = [command for command in commands_of(config) if "ray start" in command]
    assert len(starts) == (1 if name == "local.yaml" else 2)
    assert all(in_container or "export RAY_AUTH_MODE=token" in command for command in starts)


@pytest.mark.parametrize("name", FILES)
def test_ray_is_stopped_in_a_container_of_its_own_only(name: str) -> None:
    config = read(name)
    assert "docker" in config or not any("ray stop" in command for command in commands_of(config))
    assert config.get("worker_start_ray_commands") is not None, "the launcher's own would stop every Ray"


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.name)
def test_ray_start_knows_the_options_it_is_given(path: Any) -> None:
    known = {option for parameter in command_line.start.params for option in parameter.opts}
    for command in re.findall(r"ray start [^&)\n]*", path.read_text(encoding="utf-8").replace("\\\n", " ")):
        assert set(re.findall(r"--[\w-]+", command)) <= known, command


def test_machines_of_ones_own_are_set_up_by_the_rule_that_make_has() -> None:
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    for name in ("local.yaml", "onprem.yaml"):
        config = read(name)
        assert "make -C ~/rlhf_ray .venv/.ready" in config["setup_commands"]
        assert config["file_mounts"]["~/rlhf_ray"] == "."
        assert set(config["rsync_exclude"]) == {".git", ".venv", "runs"}
    assert ".venv/.ready" in targets


def test_the_cloud_has_room_for_samplers_and_a_learner_with_gpus_of_their_own() -> None:
    types = {name: kind for name, kind in read("gpu.yaml")["available_node_types"].items() if name != "head"}
    assert {kind["min_workers"] for kind in types.values()} == {0}, "what nobody needs costs nothing"
    grown = [
        Machine("", name, kind["resources"], kind["labels"])
        for name, kind in types.items()
        for _ in range(kind["max_workers"])
    ]
    assert len(grown) == read("gpu.yaml")["max_workers"]
    words = ["ppo.lead=1", "cluster.samplers=4", "cluster.learners=1", "cluster.gpus_each=1", "cluster.grows=true"]
    labels = ["cluster.learn_on.role=learner", "cluster.speak_on.role=sampler"]
    config = load(RunConfig, ROOT / "configs" / "rca" / "tiny.yaml", [*words, *labels])
    assert lack(plan(config, config.cluster, grown), grown) is None


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|rlhf-[\w-]{40,}|auth_token: *['\"]?[0-9a-f]{16}", text
    )
