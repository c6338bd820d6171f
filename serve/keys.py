"""API keys: who may do what. A file holds their digests; a key itself is shown once and never stored."""

import hmac
import ipaddress
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rlhf_ray.config import BadInput, Strict, check
from rlhf_ray.durable import digest, write_whole

Scope = Literal["generate", "score", "feedback", "admin"]
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}


def _nameable(name: str) -> str:
    """Behind a / stand an application's own people."""
    if "/" in name or not name.isprintable():
        raise ValueError("expected printable characters without a /, got others")
    return name


class Key(Strict):
    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_nameable)]
    scopes: list[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class KeyFile(Strict):
    keys: list[Key] = Field(min_length=1)


class Keys:
    """The keys of a file. A key has 256 random bits, so its plain digest says nothing about it."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = list(keys)

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """Raises BadInput where there is no such file, or it holds no keys."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"keys: expected a file of keys at {path}, got {error.strerror}") from None
        except ValueError:
            raise BadInput(f"keys: expected JSON in {path}, got a damaged file") from None
        return cls(check(KeyFile, values, str(path)).keys)

    def find(self, secret: str) -> Key | None:
        """The key whose secret this is. All are compared, each in constant time."""
        said = digest(secret.encode("utf-8", "surrogateescape"))
        found = [key for key in self.keys if hmac.compare_digest(key.sha256, said)]
        return found[0] if found else None


def issue(path: Path, name: str, scopes: list[Scope]) -> str:
    """Add a key to the file, which is made where there is none, and return it. Raises BadInput for an unknown scope."""
    secret = f"rlhf-{secrets.token_urlsafe(32)}"
    key = check(Key, {"name": name, "scopes": scopes, "sha256": digest(secret.encode())}, "key")
    before = Keys.read(path).keys if path.exists() else []
    if name in [other.name for other in before]:
        raise BadInput(f"key: expected a name that is not in {path} yet, got {name!r}")
    write_whole(path, KeyFile(keys=[*before, key]).model_dump_json(indent=2))
    path.chmod(0o600)
    return secret


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach the address, or is it."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_local_name(host: str) -> bool:
    """Whether a Host header names this machine: a page from elsewhere cannot make a browser send that."""
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    return name in LOCAL_NAMES


def check_exposed(host: str | None, keys: str) -> None:
    """Raises BadInput where others could reach the server without a key."""
    if keys == "none" and not is_loopback(host):
        raise BadInput(
            f"keys: expected a file of keys where the server listens on {host}, which others can reach; "
            "write one with python -m jobs.issue_key, or listen on 127.0.0.1"
        )
