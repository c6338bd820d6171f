"""Strict configuration: a key nobody knows, or a value of the wrong type, is one clear line at the door."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

LARGEST_FILE = 256 * 1024  # bytes; a config is written by hand


class BadInput(ValueError):
    """A user's mistake, said in one line: the field or file, what was expected and what came."""


class Strict(BaseModel):
    """Data that comes from outside: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


class Config(Strict):
    """Base of all configs: what a user may set."""


Kind = TypeVar("Kind", bound=Strict)


def load(kind: type[Kind], path: str | Path, overrides: list[str] = []) -> Kind:  # noqa: B006  (never mutated)
    """Read a YAML file, set the dotted overrides (`ppo.steps=10`) and validate.

    Raises BadInput, naming the path of the field, what was expected and what came.
    """
    values = _read(Path(path))
    for override in overrides:
        _set(values, override)
    return check(kind, values, str(path))


def check(kind: type[Kind], values: object, where: str) -> Kind:
    """The values as a `kind`. Raises BadInput, naming the place, the field, what was expected and what came."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"{where}: {_first_mistake(error, kind)}") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"{path}: expected a YAML file, found none")
    if path.stat().st_size > LARGEST_FILE:
        raise BadInput(f"{path}: expected a config of at most {LARGEST_FILE} bytes, got {path.stat().st_size}")
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise BadInput(f"{path}: expected valid YAML, got {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected keys and values, got {type(values).__name__}")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadInput(f"{override}: expected key=value, such as ppo.steps=10")
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    try:
        values[last] = _parse(text)
    except (yaml.YAMLError, ValueError):
        raise BadInput(f"{key}: expected a YAML value, got {text!r}") from None


def _first_mistake(error: ValidationError, kind: type[Strict]) -> str:
    mistake = error.errors()[0]
    kinds = {found.__name__ for found in Config.__subclasses__()}  # pydantic names the branch of a union it tried
    path = [str(part) for part in mistake["loc"] if part not in kinds]
    where = ".".join(path)
    if mistake["type"] == "extra_forbidden":
        known = _keys_at(kind, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"{where}: unknown key, {hint}"
    said = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "missing":
        return f"{where}: expected a value, found none"
    if mistake["type"] == "model_type":
        return f"{where}: expected keys and values, got {mistake['input']!r}"
    if mistake["type"] == "value_error":
        return f"{where}: {said}" if where else said
    return f"{where}: {said[0].lower()}{said[1:]}, got {mistake['input']!r}"


def _keys_at(kind: type[Strict], path: list[str]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part)
        if field is None:  # a name that the user chose, such as a reward's
            continue
        nested = list(_sections(field.annotation))
        if not nested:
            return []
        kind = nested[0]
    return list(kind.model_fields)


def _sections(annotation: Any) -> Iterator[type[Config]]:
    """The configs that a field may hold, alone, as one of several or by name."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as text, where people mean the number, and of a key that stands twice it takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _without(tag: str) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    known = yaml.SafeLoader.yaml_implicit_resolvers.items()
    return {first: [(name, pattern) for name, pattern in found if name != tag] for first, found in known}


# Nor are `off` and `no` what is false: they are words, such as that of a tripwire.
BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = _without(BOOL)
_Loader.add_implicit_resolver(BOOL, re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$|^[-+]?(\d+\.\d*|\.\d+)$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
