"""Add an API key to a file of keys, and show it this once."""

import sys
from pathlib import Path
from typing import cast

from rlhf_ray.config import BadInput

from jobs.door import was_help_asked
from jobs.ending import guarded
from serve.keys import Scope, issue

USAGE = "python -m jobs.issue_key KEYS NAME SCOPE[,SCOPE …], of generate, score, feedback, admin"


def main() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "docs/serving.md"):
        return
    if len(sys.argv) != 4:
        raise BadInput(f"expected {USAGE}, got {len(sys.argv) - 1} words")
    path, name, scopes = sys.argv[1:]
    print(issue(Path(path), name, cast("list[Scope]", scopes.split(","))))


if __name__ == "__main__":
    guarded(main)
