"""Names of completions that only this server can have given: time, chance, and an HMAC-SHA256 of both."""

import hmac
import os
import re
import secrets
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.durable import sync

HOURS = 24  # that a completion can be voted on
SECRET = ".secret"  # noqa: S105  (the file's name)
SECRET_BYTES = 32
_FORM = re.compile(r"cmpl-(?P<signed>(?P<millis>[0-9a-f]{12})[0-9a-f]{16})(?P<mac>[0-9a-f]{32})")


class Forged(BadInput):
    """A name that this server never gave."""


class Expired(BadInput):
    """A name that was given too long ago to be voted on."""


class CompletionIds:
    """Makes and checks names. All replicas with one secret know each other's."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise BadInput(f"secret: expected {SECRET_BYTES} bytes, got {len(secret)}")
        self._secret = secret

    @classmethod
    def open(cls, folder: Path) -> "CompletionIds":
        """With the secret of a ledger's folder, which the first to come makes. Other users cannot read it."""
        path = folder / SECRET
        if not path.exists():
            _make_secret(path)
        return cls(path.read_bytes())

    def mint(self, now: datetime) -> str:
        """`cmpl-` and 60 hexadecimal digits."""
        signed = f"{_millis(now):012x}{secrets.token_hex(8)}"
        return f"cmpl-{signed}{self._mac(signed)}"

    def check(self, completion_id: str, now: datetime) -> None:
        """Raises Forged, or Expired where the name is older than HOURS."""
        form = _FORM.fullmatch(completion_id)
        if not form or not hmac.compare_digest(form["mac"], self._mac(form["signed"])):
            raise Forged("completion_id: expected one that was given with a completion, got another")
        if _millis(now) - int(form["millis"], 16) > HOURS * 3_600_000:
            raise Expired(f"completion_id: expected one of the last {HOURS} hours, got an older one")

    def _mac(self, signed: str) -> str:
        return hmac.digest(self._secret, signed.encode(), "sha256").hex()[:32]


def _millis(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _make_secret(path: Path) -> None:
    """Whole or not at all; where two make it at a time, the first stays."""
    hidden = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(SECRET_BYTES))
        os.fsync(file)
        with suppress(FileExistsError):
            os.link(hidden, path)
    finally:
        os.close(file)
        hidden.unlink()
    sync(path.parent)
