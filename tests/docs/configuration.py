"""Writes docs/configuration.md out of the Config classes.

`python -m tests.docs.configuration > docs/configuration.md`
"""

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rlhf_ray.config import Config
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.pretrain import Pretraining

from serve.app import Serving

HEAD = """# Configuration

Every key, its type, its default and what it does, written out of the code by `python -m tests.docs.configuration`; a
test holds the two equal. How keys are set is in the [README](../README.md#configuration): in a YAML file, and as dotted
words on the command line (`ppo.steps=40`).
"""
PARTS = (
    ("A run", "`configs/rca/*.yaml`, `configs/reward/*.yaml`: what all jobs but two read.", RunConfig),
    ("Serving", "`args` of the application in `configs/serve.yaml`; all else there is Ray Serve's own.", Serving),
    ("The shipped base", "`configs/pretrain.yaml`, for `jobs.pretrain`.", Pretraining),
)
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "none"}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "multiple_of": "a multiple of"}


def page() -> str:
    return "\n".join([HEAD, *(line for part in PARTS for line in _part(*part))])


def _part(title: str, about: str, kind: type[Config]) -> Iterator[str]:
    yield f"## {title}\n\n{about}\n"
    yield from _table(kind)
    for name, section in _sections(kind):
        yield f"### `{name}`\n\n{_first_lines(section)}\n"
        yield from _table(section)


def _sections(kind: type[Config], path: str = "") -> Iterator[tuple[str, type[Config]]]:
    """The configs inside, with the dotted names under which they are set, from the outermost in."""
    for name, field in kind.model_fields.items():
        for section, is_named in _configs_in(field.annotation):
            place = f"{path}{name}" + (".<name>" if is_named else "")
            yield place, section
            yield from _sections(section, f"{place}.")


def _configs_in(annotation: Any, is_named: bool = False) -> Iterator[tuple[type[Config], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation, is_named
    for part in get_args(annotation):
        yield from _configs_in(part, is_named or get_origin(annotation) is dict)


def _table(kind: type[Config]) -> Iterator[str]:
    yield "| key | type | default | |\n|---|---|---|---|"
    for name, field in kind.model_fields.items():
        cells = (f"`{name}`", _type(field.annotation) + _bounds(field), _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{_said(value)}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type, parts))
    if origin in (list, tuple, dict):
        few = dict.fromkeys(_type(part) for part in parts if part is not Ellipsis)
        return {list: "list of ", tuple: "list of ", dict: "by name: "}[origin] + ", ".join(few)
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "keys, below"
    return _type(parts[0]) if parts else WORDS.get(annotation, "text")


def _bounds(field: FieldInfo) -> str:
    found = [
        f"{words} {value:g}"
        for limit in field.metadata
        for name, words in BOUNDS.items()
        if isinstance(value := getattr(limit, name, None), int | float)
    ]
    return f", {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "none: it must be given"
    return "as below" if isinstance(field.default, Config) else f"`{_said(field.default)}`"


def _said(value: Any) -> str:
    """As YAML has it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_said, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_said(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Config):
        return _said({name: each for name, each in value if name in value.model_fields_set})
    words = {True: "true", False: "false", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _first_lines(kind: type[Config]) -> str:
    return " ".join((kind.__doc__ or "").split())


if __name__ == "__main__":
    print(page(), end="")
