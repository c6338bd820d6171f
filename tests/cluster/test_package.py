"""What `ray job submit --working-dir .` sends: the code and its configs, and nothing that is large or secret."""

import logging
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from .conftest import ROOT

LARGEST = 8 * 2**20  # bytes; most of it is the shipped base
LEFT_BEHIND = [
    "runs/rca-tiny/seed-0/sft/model.safetensors",
    "data/thumbs.parquet",
    "models/base/model.safetensors",
    "checkpoints/step-1/model.safetensors",
    ".venv/lib/python3.11/site-packages/torch/lib.so",
    ".git/objects/pack/pack.pack",
    ".mypy_cache/3.11/cache.json",
    ".env",
    "rlhf_ray/__pycache__/runs.cpython-311.pyc",
    "wandb/run-1/files.txt",
    "mlruns/0/meta.yaml",
    "nohup.log",
    "build/lib/rlhf_ray/runs.py",
    "rlhf_ray.egg-info/PKG-INFO",
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The files of the package and their sizes; Ray's own code made it, of a clone in which somebody has worked."""
    clone = tmp_path_factory.mktemp("clone")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [*tracked.rstrip("\0").split("\0"), *LEFT_BEHIND]:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file() and name not in LEFT_BEHIND:
            shutil.copyfile(ROOT / name, clone / name)
        else:
            (clone / name).write_bytes(b"0" * 2**20)
    package = clone.with_name("package.zip")
    create_package(
        str(clone),
        package,
        include_gitignore=True,
        excludes=get_runtime_env_default_excludes(),
        logger=logging.getLogger(__name__),
    )
    with zipfile.ZipFile(package) as archive:
        return {info.filename: info.compress_size for info in archive.infolist() if not info.is_dir()}


def test_runs_data_caches_and_secrets_stay_behind(names: dict[str, int]) -> None:
    assert [name for name in LEFT_BEHIND if any(sent.endswith(name) for sent in names)] == []
    assert {Path(name).parts[0] for name in names if "/" in name} == {"configs", "jobs", "rlhf_ray", "serve"}


def test_the_code_comes_along_whole(names: dict[str, int]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "configs", "jobs", "rlhf_ray", "serve"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [name for name in tracked if name not in names] == []


def test_it_is_small(names: dict[str, int]) -> None:
    assert sum(names.values()) < LARGEST
