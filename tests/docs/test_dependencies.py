"""What is declared is what is imported, and what docs/dependencies.md speaks of."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = ("rlhf_ray", "jobs", "serve")


def named(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


NEEDED = named(PROJECT["dependencies"])
EXTRAS = {extra: named(texts) for extra, texts in PROJECT["optional-dependencies"].items()}


def imported() -> set[str]:
    """The packages of others that the code imports, by the names under which they are installed."""
    modules: set[str] = set()
    for path in (path for room in OWN for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    homes = packages_distributions()
    others = modules - set(sys.stdlib_module_names) - set(OWN)
    return {canonicalize_name(homes.get(module, [module])[0]) for module in others}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    assert imported() - {"vllm"} == NEEDED, "vLLM is installed by hand: no extra of ours could be resolved"


@pytest.mark.parametrize(
    ("title", "packages"),
    [
        ("Dependencies", NEEDED),
        ("Extras", set().union(*(names for extra, names in EXTRAS.items() if extra != "dev"))),
        ("For developers", EXTRAS["dev"]),
    ],
)
def test_every_dependency_has_a_row(title: str, packages: set[str]) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^#+ {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    (_, *rows) = re.findall(r"^\| ([^|]+) \|", part, re.MULTILINE)  # the first is the head
    assert {canonicalize_name(name) for row in rows for name in row.split(", ")} == packages
