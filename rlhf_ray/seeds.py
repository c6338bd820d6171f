"""Seeds that are arguments: every random choice has its own, derived from the run's seed and what it is for."""

import hashlib


def derive(*parts: int | str) -> int:
    """A seed in [0, 2**63) from the parts, such as (run seed, iteration, sample): the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
