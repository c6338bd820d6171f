"""Where a model lies and what its files are, for those who name models and never load one."""

import json
from importlib.resources import files
from pathlib import Path

from rlhf_ray.durable import digest, digests

SHIPPED = "shipped"  # the config's name for the package's own base model


def resolve(name: str) -> str:
    """A model's folder, absolute since workers may run elsewhere, or a hub name as it is."""
    folder = Path(str(files("rlhf_ray").joinpath("base")) if name == SHIPPED else name).expanduser()
    return str(folder.resolve()) if folder.exists() else name


def fingerprint(name: str) -> str:
    """The digest of a model folder's files; of a hub's model the name, since nobody here knows its files."""
    folder = Path(resolve(name))
    return digest(json.dumps(digests(folder), sort_keys=True).encode()) if folder.is_dir() else name
