"""A batch: a frozen dataclass of tensors that share their first axis, cut and joined as one."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Kind = TypeVar("Kind", bound="Batch")


class Batch:
    """Base of the nouns in `experience.py`. Every field is a tensor `B …` or another batch of the same length."""

    def __len__(self) -> int:
        first = getattr(self, fields(self)[0].name)  # type: ignore[arg-type]
        return len(first)

    def __getitem__(self: Kind, rows: slice | Tensor) -> Kind:
        return _map(self, lambda part: part[rows])

    def __reduce__(self) -> tuple[Callable, tuple]:
        """Travels as NumPy arrays of its own rows: those go through Ray's store as they are.

        A tensor would be written to a file in memory first, and one cut from another would take all of that one along.
        """
        return _arrived, (type(self), *(_travelling(getattr(self, field.name)) for field in fields(self)))  # type: ignore[arg-type]

    def to(self: Kind, device: torch.device | str) -> Kind:
        return _map(self, lambda part: part.to(device))

    def split(self: Kind, size: int) -> list[Kind]:
        """Cut into pieces of `size` rows; the last may be shorter. `concat` puts them together again."""
        return [self[start : start + size] for start in range(0, len(self), size)]


def concat(batches: Sequence[Kind]) -> Kind:
    """Join batches of one type row after row. Their other axes must agree."""
    if not batches:
        raise ValueError("expected at least one batch to join, got none")
    first = batches[0]
    parts = {}
    for field in fields(first):  # type: ignore[arg-type]
        values = [getattr(batch, field.name) for batch in batches]
        parts[field.name] = concat(values) if isinstance(values[0], Batch) else torch.cat(values)
    return type(first)(**parts)


def _map(batch: Kind, change: Callable) -> Kind:
    return type(batch)(**{f.name: change(getattr(batch, f.name)) for f in fields(batch)})  # type: ignore[arg-type]


def _travelling(part: Tensor | Batch) -> np.ndarray | Batch:
    return part.numpy(force=True) if isinstance(part, Tensor) else part


def _arrived(kind: type[Kind], *parts: np.ndarray | Batch) -> Kind:
    """Copies, for what lies in the store can be read only."""
    return kind(*(torch.tensor(part) if isinstance(part, np.ndarray) else part for part in parts))
