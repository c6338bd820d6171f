"""What the doors of a served application's operators share: its address, the key, and what is told of its versions."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from rlhf_ray.client import Client, ServerError
from rlhf_ray.config import BadInput

from jobs.door import was_help_asked

URL = "http://127.0.0.1:8000"
KEY, KEY_FILE = "RLHF_RAY_KEY", "RLHF_RAY_KEY_FILE"
TIMEOUT_S = 3600  # the server's own limit ends a call before


def turn(usage: str, words: int, call: Callable[..., dict[str, Any]]) -> None:
    """Have a server serve something else: `call` gets a client and the command line's words before the address.

    Raises BadInput with the server's sentence where it refuses; what was served then goes on.
    """
    if was_help_asked(sys.argv[1:], usage, "docs/serving.md"):
        return
    given = sys.argv[1:]
    if not words <= len(given) <= words + 1:
        raise BadInput(f"expected {usage}, got {len(given)} words")
    url = (given[words:] or [URL])[0]
    try:
        told = call(Client(url, _key(), timeout_s=TIMEOUT_S), *given[:words])
    except ServerError as refused:
        raise BadInput(f"{url}: {refused}") from None
    except HTTPError as error:
        raise BadInput(f"{url}: expected a server that answers, got: {error}") from None
    for name, model in told["serving"]["models"].items():
        print(f"{name}: {model['version']}")
    print(f"of {told['serving']['run'] or 'the serving file'}", file=sys.stderr)


def _key() -> str:
    """An API key from the environment or a file that it names, never from the command line, which others can see."""
    if file := os.environ.get(KEY_FILE):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadInput(f"{KEY_FILE}: expected a file with a key at {file}, got: {error.strerror}") from None
    return os.environ.get(KEY, "")
