"""A version of the policy, wherever its tensors may lie."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor, nn


@dataclass(frozen=True)
class LocalWeights:
    """All parameters in one flat float32 buffer, in the order of `model.parameters()`.

    A NumPy array, since Ray hands those to other processes without a copy.
    """

    version: int
    buffer: np.ndarray
    checksum: str

    def fetch(self) -> "LocalWeights":
        return self


class Weights(Protocol):
    """A promise of weights: the version is known at once, the tensors come on `fetch`."""

    @property
    def version(self) -> int: ...

    def fetch(self) -> LocalWeights: ...


def pack(parameters: Iterable[Tensor], version: int) -> LocalWeights:
    """One pass over the parameters, wherever they lie: each is copied to its place, and converted on the way."""
    tensors = list(parameters)
    buffer = np.empty(sum(tensor.numel() for tensor in tensors), dtype=np.float32)
    for tensor, part in zip(tensors, torch.from_numpy(buffer).split([t.numel() for t in tensors]), strict=True):
        part.view_as(tensor).copy_(tensor.detach())
    return LocalWeights(version, buffer, checksum(buffer))


def unpack(weights: LocalWeights, model: nn.Module) -> None:
    """Copy the weights into the model. Raises ValueError where they do not fit or did not arrive as they were sent."""
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, part in zip(parameters, arrived(weights, [p.shape for p in parameters]), strict=True):
            parameter.copy_(part)


def arrived(weights: LocalWeights, shapes: Sequence[torch.Size]) -> Iterator[Tensor]:
    """Views on the buffer in these shapes, to read only. Raises ValueError where they do not fill it, or it changed."""
    sizes = [shape.numel() for shape in shapes]
    if weights.buffer.size != sum(sizes):
        raise ValueError(f"weights: expected {sum(sizes)} parameters, got {weights.buffer.size}")
    if checksum(weights.buffer) != weights.checksum:
        raise ValueError(f"weights: version {weights.version} is not what the learner sent (checksum differs)")
    return (part.view(shape) for part, shape in zip(as_tensor(weights.buffer).split(sizes), shapes, strict=True))


def as_tensor(buffer: np.ndarray) -> Tensor:
    """The buffer as a tensor, without a copy. What Ray hands out cannot be written to, of which torch would warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(buffer)


def write_weights(weights: LocalWeights, path: Path) -> None:
    """Into one `.npz` file."""
    np.savez(path, version=weights.version, buffer=weights.buffer, checksum=weights.checksum)


def read_weights(path: Path) -> LocalWeights:
    with np.load(path) as found:
        return LocalWeights(int(found["version"]), found["buffer"], str(found["checksum"]))


def checksum(buffer: np.ndarray) -> str:
    """128 bits that change with any bit of the buffer: a guard against accidents, at the speed of memory."""
    return xxhash.xxh3_128_hexdigest(buffer.data)
