"""Whether a run could run: what its config needs, held against what there is."""

import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import ray
import torch
import urllib3
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rlhf_ray
from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import connect, wait_for
from rlhf_ray.distributed.placement import Machine, lack, machines, needs_of, plan
from rlhf_ray.runs import Cluster, RunConfig
from rlhf_ray.storage import Storage

PACKAGES = ("rlhf-ray", "ray", "torch", "transformers", "trl")
GIB = 2**30
PATIENCE_S = 120  # a machine's first process imports for some seconds


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `wrong` where the run cannot run as it is."""

    name: str
    said: str
    wrong: bool = False


def examine(config: RunConfig) -> Iterator[Finding]:
    """Raises BadInput where the cluster cannot be reached."""
    yield Finding("versions", ", ".join([f"Python {platform.python_version()}", *_versions()]))
    yield Finding("code", str(Path(rlhf_ray.__file__).parent))
    yield Finding("here", _this_machine())
    yield _tried("base", lambda: _base(config))
    if config.storage != "none":
        yield _tried("storage", lambda: _storage(config.storage))
    if config.cluster == "none":
        yield _tried("folder", lambda: _folder(config.run_folder))
        yield Finding("plan", f"one process of {config.threads} threads, without Ray")
        return
    connect()
    there = machines()
    yield Finding("machines", "; ".join(map(_machine, there)))
    yield from _token()
    folder = _tried("folder", lambda: _folder(config.run_folder))
    yield folder
    if not folder.wrong:
        yield from _everywhere(config.run_folder, there, config.cluster)
    yield from _plan(config, config.cluster, there)


def _base(config: RunConfig) -> str:
    config.check_base()
    return config.base


def _versions() -> list[str]:
    return [f"{name} {version(name)}" for name in PACKAGES]


def _this_machine() -> str:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    memory = psutil.virtual_memory().available / GIB
    return f"{os.cpu_count()} CPU cores, {memory:.0f} GiB of memory free, {', '.join(gpus) or 'no GPU'}"


def _machine(machine: Machine) -> str:
    has = [f"{machine.resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU")]
    labels = [f"{name}={value}" for name, value in machine.labels.items() if not name.startswith("ray.io/node")]
    return " ".join([machine.address, ", ".join(has), *labels])


def _token() -> Iterator[Finding]:
    """Who can give the cluster orders: whoever reaches it, or whoever also has its token."""
    yield Finding("token", f"{token_source()}; RAY_AUTH_MODE {os.environ.get('RAY_AUTH_MODE', 'not set')}")
    dashboard = ray._private.worker.global_worker.node.webui_url
    said = f"dashboard and jobs at {dashboard}, which {_asked(dashboard)}" if dashboard else "no dashboard"
    yield Finding("ports", f"Ray at {ray.get_runtime_context().gcs_address}; {said}")


def token_source() -> str:
    """Where this process has its token from, and whether others can have it from there, too."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return "RAY_AUTH_TOKEN"
    place = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if not place.is_file():
        return "none"
    return f"{place}, which others can read (chmod 600)" if place.stat().st_mode & 0o077 else str(place)


def _asked(dashboard: str) -> str:
    try:
        status = urllib3.request("GET", f"http://{dashboard}/api/jobs/", timeout=5, retries=False).status
    except urllib3.exceptions.HTTPError as error:
        return f"does not answer ({error})"
    return "asks for the token" if status in (401, 403) else f"takes orders from anybody (status {status})"


def _folder(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    probe.unlink()
    return f"{folder} can be written, {shutil.disk_usage(folder).free / GIB:.0f} GiB free"


def _storage(address: str) -> str:
    Storage.at(address).check()
    return f"{address} can be written"


def _everywhere(folder: Path, there: list[Machine], cluster: Cluster) -> Iterator[Finding]:
    """Whether every machine sees the run's folder, where actors read models, and has the same packages."""
    probe = folder.resolve() / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    try:
        asked = [_look.options(scheduling_strategy=_on(machine)).remote(str(probe)) for machine in there]
        found = list(zip(there, wait_for(asked, "a process on every machine", PATIENCE_S), strict=True))
    finally:
        probe.unlink()
    blind = [machine.address for machine, (sees, *_) in found if not sees]
    said = f"not seen by {', '.join(blind)}: it must lie on a file system that all machines share"
    yield Finding("shared", said if blind else f"the folder is seen by all {len(there)} machine(s)", wrong=bool(blind))
    others = [f"{machine.address}: {', '.join(has)}" for machine, (_, has, _) in found if has != _versions()]
    yield Finding("same", f"other versions at {'; '.join(others)}" if others else "all have these versions")
    if cluster.gpus_each:
        plain = [each.address for each, (*_, cuda) in found if each.resources.get("GPU") and not cuda]
        said = f"torch is a build for CPUs at {', '.join(plain)}" if plain else "torch is a build for CUDA"
        yield Finding("cuda", said, wrong=bool(plain))


@ray.remote(num_cpus=0)
def _look(probe: str) -> tuple[bool, list[str], bool]:
    """Runs on every machine."""
    return Path(probe).is_file(), _versions(), torch.version.cuda is not None


def _on(machine: Machine) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(machine.node, soft=False)


def _plan(config: RunConfig, cluster: Cluster, there: list[Machine]) -> Iterator[Finding]:
    seats = plan(config, cluster, there)
    roles = {"sampler": cluster.samplers, "scorer": cluster.scorers, "learner": cluster.learners}
    said = ", ".join(f"{count} {role}{'s' if count > 1 else ''}" for role, count in roles.items())
    yield Finding("plan", f"{said} on {len(seats)} seat(s)")
    free = ray.available_resources()
    for kind, each in needs_of(cluster).items():
        if each:
            have = sum(machine.resources.get(kind, 0) for machine in there)
            need = len(seats) * each
            yield Finding(kind, f"need {need:g}, have {have:g}, of which {free.get(kind, 0):g} are free now")
    lacking = lack(seats, there)
    if lacking and cluster.grows:
        yield Finding("room", f"{lacking}; what lacks is asked for (cluster.grows)")
    elif lacking:
        yield Finding("room", lacking, wrong=True)


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, look())
    except (BadInput, OSError) as error:
        return Finding(name, str(error), wrong=True)
