"""The image and the compose file, read as their builders read them. No Docker runs where the tests run."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from .conftest import CLUSTER, ROOT, misspelt, read

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they are given."""
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in lines.splitlines() if line.strip()]


def given(steps: list[tuple[str, str]], instruction: str) -> list[str]:
    return [words for name, words in steps if name == instruction]


def test_every_instruction_is_one_that_leaves_no_surprise(steps: list[tuple[str, str]]) -> None:
    assert {name for name, _ in steps} <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}


def test_the_base_is_one_version_and_not_the_latest(steps: list[tuple[str, str]]) -> None:
    arguments = dict(words.partition("=")[::2] for words in given(steps, "ARG"))
    (base,) = given(steps, "FROM")
    image, _, tag = re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], base).partition(":")
    assert image == "python"
    assert re.fullmatch(r"3\.1[1-3]\.\d+-slim-\w+", tag)


def test_it_does_not_run_as_root_and_owns_no_code(steps: list[tuple[str, str]]) -> None:
    users = [place for place, (name, _) in enumerate(steps) if name == "USER"]
    assert steps[users[-1]][1] == "1000:1000", "a number, by which Kubernetes knows that it is not root"
    assert not {name for name, _ in steps[users[-1] :]} & {"RUN", "COPY"}
    assert not [words for words in given(steps, "COPY") if "--chown" in words]
    assert len(re.findall(r"--owner=ray \S+ \S+ /runs", " ".join(given(steps, "RUN")))) == 1
    assert "chown" not in " ".join(given(steps, "RUN"))


def test_what_is_copied_is_there_and_is_let_through(steps: list[tuple[str, str]]) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {line.split("/")[0] for line in tracked.splitlines()}
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {source for words in given(steps, "COPY") for source in words.split()[:-1]}
    assert "*" in ignored
    assert copied <= tops
    assert copied == let_through


def test_what_is_installed_is_pinned_and_leaves_nothing_behind(steps: list[tuple[str, str]]) -> None:
    torch = re.search(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    runs = given(steps, "RUN")
    for command in runs:
        for install in re.findall(r"pip install[^&;]*", command):
            assert "--no-cache-dir" in install
            assert "-c constraints.txt" in install or torch[1] in install or "--no-deps" in install
        if "apt-get install" in command:
            assert "--no-install-recommends" in command and "rm -rf /var/lib/apt/lists/*" in command
        assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0, command
    assert sum(torch[1] in command for command in runs) == 1
    assert all(f"{device})" in " ".join(runs) for device in ("cpu", "cuda"))


def test_ray_has_a_token_or_does_not_start(steps: list[tuple[str, str]]) -> None:
    assert "RAY_AUTH_MODE=token" in given(steps, "ENV")[0].split()


def test_compose_knows_every_field_and_would_notice_a_misspelt_one() -> None:
    compose = read("compose.yaml")
    VALIDATOR.validate(compose)
    cases = [(where, other) for where, other in misspelt(compose) if not where.startswith(".x-")]
    assert len(cases) > 40
    assert [where for where, other in cases if VALIDATOR.is_valid(other)] == []


def test_containers_are_locked_down_and_only_this_machine_reaches_them(steps: list[tuple[str, str]]) -> None:
    compose = read("compose.yaml")
    for service in compose["services"].values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?"), "none is an error"
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert {volume.split(":")[0] for volume in service["volumes"]} == compose["volumes"].keys()
        assert not {"privileged", "user", "network_mode"} & service.keys()


def test_compose_builds_the_dockerfile_by_its_own_arguments(
    steps: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    build = read("compose.yaml")["services"]["head"]["build"]
    assert (CLUSTER / build["context"] / build["dockerfile"]).resolve() == CLUSTER / "Dockerfile"
    assert build["args"].keys() <= {words.partition("=")[0] for words in given(steps, "ARG")}
    images = {service["image"] for service in read("compose.yaml")["services"].values()}
    assert images == {f"rlhf-ray:{project['version']}-${{DEVICE:-cpu}}"}
