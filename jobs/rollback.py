"""Serve what was served before the last promotion."""

from jobs.admin import turn
from jobs.ending import guarded


def work() -> None:
    turn("python -m jobs.rollback [URL]", 0, lambda client: client.rollback())


if __name__ == "__main__":
    guarded(work)
