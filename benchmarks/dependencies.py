"""What each dependency weighs where it is installed: `python benchmarks/dependencies.py`, in a clone.

Of every package that pyproject.toml names: its version, the megabytes of its own files, those that would go if it were
named no more, with whatever only it brings, and who else among the named brings it.
"""

import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


def main() -> None:
    print("| package | version | MB | MB that go with it | brought by |", "|---|---|---:|---:|---|", sep="\n")
    needed = _parsed(PROJECT["dependencies"])
    for one in needed:
        print(_row(one, [other for other in needed if other is not one]))
    for extra in PROJECT["optional-dependencies"].values():
        for one in _parsed(extra):
            print(_row(one, [*needed, *(other for other in _parsed(extra) if other != one)]))


def _parsed(texts: list[str]) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def _row(one: Requirement, others: list[Requirement]) -> str:
    name = canonicalize_name(one.name)
    if not _installed(name):
        return f"| {one.name} | not installed | | | |"
    gone = sum(megabytes(part) for part in brought([one]) - brought(others))
    heirs = ", ".join(sorted(other.name for other in others if name in brought([other])))
    return f"| {one.name} | {version(name)} | {megabytes(name):.1f} | {gone:.1f} | {heirs} |"


def brought(roots: Iterable[Requirement]) -> set[str]:
    """The installed packages that these need, and those that they need in turn, with the extras that are asked for."""
    found: dict[str, set[str]] = {}
    ahead = list(roots)
    while ahead:
        one = ahead.pop()
        name = canonicalize_name(one.name)
        if new := {"", *one.extras} - found.setdefault(name, set()):
            found[name] |= new
            ahead += _needs(name, new)
    return {name for name in found if _installed(name)}


def _needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    package = _installed(name)
    for needed in _parsed((package and package.requires) or []):
        if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield needed


@cache
def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


@cache
def megabytes(name: str) -> float:
    """Of all files that the package's installation wrote."""
    paths = [Path(str(file.locate())) for file in distribution(name).files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
