"""The wheel alone, in an environment that has no clone: everything is in it, and the quickstart's Python runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.environments import environment

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves things behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("rlhf_ray", "jobs", "serve"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_every_file_of_the_packages_is_in_it(wheel: Path) -> None:
    there = set(zipfile.ZipFile(wheel).namelist())
    for package in ("rlhf_ray", "jobs", "serve"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in there


def test_the_quickstarts_python_runs_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "environment", "--no-deps", str(wheel))
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    (tmp_path / "elsewhere").mkdir()

    def run(text: str) -> str:
        done = subprocess.run(
            [python, "-c", text], cwd=tmp_path / "elsewhere", env=alone, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert str(tmp_path) in run("import rlhf_ray; print(rlhf_ray.__file__)")
    blocks = [block for block in blocks_of(ROOT / "docs" / "quickstart.md", ROOT) if block.language == "python"]
    assert blocks
    for block in blocks:
        run(block.text)
