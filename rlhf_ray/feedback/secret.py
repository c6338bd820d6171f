"""A ledger's secret: 32 bytes of chance that its servers share and nobody else knows."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.durable import sync

FILE = ".secret"
BYTES = 32


def read_secret(folder: Path) -> bytes:
    """That of a ledger's folder; the first to come makes it. Other users cannot read it. Raises BadInput."""
    path = folder / FILE
    if not path.exists():
        _make(path)
    secret = path.read_bytes()
    if len(secret) != BYTES:
        raise BadInput(f"{path}: expected {BYTES} bytes, got {len(secret)}")
    return secret


def has_secret(folder: Path) -> bool:
    return (folder / FILE).exists()


def _make(path: Path) -> None:
    """Whole or not at all; where two make it at a time, the first stays."""
    hidden = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(BYTES))
        os.fsync(file)
        with suppress(FileExistsError):
            os.link(hidden, path)
    finally:
        os.close(file)
        hidden.unlink()
    sync(path.parent)
