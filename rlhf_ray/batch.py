"""A batch: a frozen dataclass of tensors that share their first axis, cut and joined as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

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

    def __reduce__(self: Kind) -> tuple[Callable, tuple]:
        """Travels as NumPy arrays of its own rows: those go through Ray's store as they are.

        A tensor would be written to a file in memory first, and one cut from another would take all of that one along.
        What arrives is a copy, for what lies in the store can be read only.
        """
        return gather, ((Lent.of(self),),)

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


@dataclass(frozen=True)
class Lent(Generic[Kind]):
    """A batch on its way between processes: who gets it copies the rows that he wants, and no more."""

    kind: type[Kind]
    parts: tuple["np.ndarray | Lent", ...]

    @classmethod
    def of(cls, batch: Kind) -> "Lent[Kind]":
        return cls(type(batch), tuple(_lent(getattr(batch, field.name)) for field in fields(batch)))  # type: ignore[arg-type]

    def rows(self, part: range) -> Kind:
        """The rows from `part.start` to `part.stop`."""
        rows = slice(part.start, part.stop)
        return self.kind(*(p.rows(part) if isinstance(p, Lent) else torch.tensor(p[rows]) for p in self.parts))


def gather(lent: Sequence[Lent[Kind]]) -> Kind:
    """As `concat`, of batches that are not copied before."""
    columns = zip(*(each.parts for each in lent), strict=True)
    return lent[0].kind(
        *(gather(c) if isinstance(c[0], Lent) else torch.from_numpy(np.concatenate(c)) for c in columns)
    )


def _map(batch: Kind, change: Callable) -> Kind:
    return type(batch)(**{f.name: change(getattr(batch, f.name)) for f in fields(batch)})  # type: ignore[arg-type]


def _lent(part: Tensor | Batch) -> np.ndarray | Lent:
    return part.numpy(force=True) if isinstance(part, Tensor) else Lent.of(part)
