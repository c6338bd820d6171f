"""Whose turn it is where cores are few: an engine at work is not put off its core by whoever wakes up for a message.

Linux lets a process that is marked as a batch's have its fair share, but not interrupt. A server and all that it starts
are so; the engines are not. Elsewhere nothing is marked.
"""

import os


def wait_for_turns() -> None:
    """From this thread, and whatever it starts from now on."""
    _mark("SCHED_BATCH")


def take_turns() -> None:
    """As any process does: of a thread, and of those that it starts from now on, whoever started it."""
    _mark("SCHED_OTHER")


def _mark(policy: str) -> None:
    if hasattr(os, policy):
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
