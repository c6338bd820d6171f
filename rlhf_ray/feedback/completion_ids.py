"""Names of completions that only this server can have given: a digest of what makes each one, and an HMAC-SHA256 of it.

What was asked again, with the same key, by the same person, and answered by the same model has the same name.
"""

import hashlib
import hmac
import json
import re
from datetime import datetime, timedelta

from rlhf_ray.config import BadInput

HOURS = 24  # that a completion can be voted on
_FORM = re.compile(r"cmpl-(?P<signed>[0-9a-f]{28})(?P<mac>[0-9a-f]{32})")


class Forged(BadInput):
    """A name that this server never gave."""


class Expired(BadInput):
    """A name that was given too long ago to be voted on."""


class CompletionIds:
    """Makes and checks names. All replicas with one secret know each other's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def name(self, *parts: str | int) -> str:
        """`cmpl-` and 60 hexadecimal digits, which follow from the parts."""
        signed = hashlib.blake2b(json.dumps(parts).encode(), key=self._secret, digest_size=14).hexdigest()
        return f"cmpl-{signed}{self._mac(signed)}"

    def check(self, completion_id: str) -> None:
        """Raises Forged."""
        form = _FORM.fullmatch(completion_id)
        if not form or not hmac.compare_digest(form["mac"], self._mac(form["signed"])):
            raise Forged("completion_id: expected one that was given with a completion, got another")

    def _mac(self, signed: str) -> str:
        return hmac.digest(self._secret, signed.encode(), "sha256").hex()[:32]


def check_age(given: datetime, now: datetime) -> None:
    """Of a completion that was given then. Raises Expired."""
    if now - given > timedelta(hours=HOURS):
        raise Expired(f"completion_id: expected one of the last {HOURS} hours, got an older one")
