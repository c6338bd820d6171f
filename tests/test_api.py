"""What a script may rely on is listed in one place, is there, has types, and costs nothing until it is asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rlhf_ray

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", rlhf_ray.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(rlhf_ray, name).__doc__


def test_a_type_checker_sees_the_same_names_in_the_same_places() -> None:
    tree = ast.parse((ROOT / "rlhf_ray" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    seen = {str(node.module): tuple(alias.name for alias in node.names) for node in imports}
    assert seen == rlhf_ray._HOMES
    assert sorted(name for names in seen.values() for name in names) == sorted(rlhf_ray.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        rlhf_ray.Trainer  # noqa: B018  (the very access)


def test_the_client_comes_without_torch_and_ray() -> None:
    said = "import sys; from rlhf_ray import Client; assert not {'torch', 'ray', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", said], cwd=ROOT, check=True)


def test_every_package_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in ("rlhf_ray", "jobs", "serve"))
