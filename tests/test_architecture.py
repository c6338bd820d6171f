"""The house holds: imports go down only, and Ray is imported in three folders only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the top down. A module may import from its own row and from those below it.
LAYERS = [
    {"jobs"},
    {"serve"},
    {"distributed"},
    {"summary"},
    {"stages"},
    {"runs"},
    {"training", "evaluation"},
    {"workers", "feedback", "data", "incidents"},
    {"models", "text", "chat"},
    {"algorithms", "experience"},
    {"batch", "weights", "config", "seeds", "meter", "heap", "durable", "storage", "alarm", "client"},
]
RAY_FOLDERS = {"jobs", "serve", "distributed"}
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted([*ROOT.glob("rlhf_ray/**/*.py"), *ROOT.glob("jobs/*.py"), *ROOT.glob("serve/**/*.py")])


def room(path: Path) -> str:
    """What stands in LAYERS for a file: a folder of the package, a module at its top, or a door."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "rlhf_ray" else parts[0]


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_used(path: Path) -> set[str]:
    own = {name.split(".")[1] for name in imported(path) if name.startswith("rlhf_ray.")}
    return own | {top for name in imported(path) if (top := name.split(".")[0]) in ("jobs", "serve")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_arrow_goes_down_only(path):
    if path == ROOT / "rlhf_ray" / "__init__.py":
        return
    for used in rooms_used(path):
        assert RANK[used] >= RANK[room(path)], f"{path.relative_to(ROOT)} imports {used}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_ray_is_imported_in_three_folders_only(path):
    tops = {name.split(".")[0] for name in imported(path)}
    assert "ray" not in tops or room(path) in RAY_FOLDERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_learns_cannot_read_the_rubric(path):
    if room(path) in {"training", "workers", "algorithms", "models", "distributed"}:
        assert not {name for name in imported(path) if name.startswith("rlhf_ray.incidents")}


def test_inside_serve_ray_serve_is_imported_from_ray():
    for path in ROOT.glob("serve/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert "serve" not in {alias.name for alias in node.names}, f"{path.name}: from ray import serve"


def test_the_engine_and_the_doors_know_no_ray():
    with_ray = {path.stem for path in ROOT.glob("serve/*.py") if any(n.startswith("ray.") for n in imported(path))}
    assert with_ray == {"app", "file", "ingress", "metrics", "processes", "remote", "reward_replica"}


def test_every_wait_on_ray_has_a_deadline():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ray.get", "ray.wait"):
                assert "timeout" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


def test_a_job_is_short():
    for path in ROOT.glob("jobs/*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 70, f"{path.name}: {len(lines)} lines"
