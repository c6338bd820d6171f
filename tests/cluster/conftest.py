"""Reading what lies in cluster/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CLUSTER = ROOT / "cluster"
# Where anybody may choose the names.
FREE = {"labels", "annotations", "nodeSelector", "rayStartParams", "limits", "requests"}  # Kubernetes
FREE |= {"services", "volumes", "environment", "args", "depends_on"}  # Compose


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def misspelt(values: Any, path: str = "", free: bool = False) -> Iterator[tuple[str, Any]]:
    """The values again and again, each time with another key misspelt, whose path comes first."""
    if isinstance(values, list):
        for place, value in enumerate(values):
            for where, other in misspelt(value, f"{path}[{place}]"):
                yield where, [*values[:place], other, *values[place + 1 :]]
    if isinstance(values, dict):
        for key, value in values.items():
            if not free:
                yield f"{path}.{key}", {f"{each}s" if each == key else each: has for each, has in values.items()}
            for where, other in misspelt(value, f"{path}.{key}", free=key in FREE):
                yield where, values | {key: other}


@pytest.fixture
def project() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
