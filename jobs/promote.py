"""Serve another run's models from now on: the server checks and tries them, then swaps them while requests go on."""

from pathlib import Path

from jobs.admin import turn
from jobs.ending import guarded


def work() -> None:
    turn("python -m jobs.promote RUN [URL]", 1, lambda client, run: client.promote(_there(run)))


def _there(run: str) -> str:
    """The folder's whole path where it lies on this machine; else the name as it is, which the server's knows."""
    return str(Path(run).resolve()) if Path(run).is_dir() else run


if __name__ == "__main__":
    guarded(work)
