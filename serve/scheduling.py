"""How the kernel schedules a server: an engine at work is not put off its core by whoever wakes up for a message.

Linux lets a process that is marked as a batch's have its fair share, but not interrupt. A server and all that it starts
are so; the engines are not. Elsewhere, and where the system does not allow it, nothing is marked.
"""

import logging
import os

LOG = logging.getLogger(__name__)


def interrupt_nobody() -> None:
    """Of this thread, and whatever it starts from now on."""
    _mark("SCHED_BATCH")


def interrupt_as_usual() -> None:
    """The same of a thread that computes, whoever started it."""
    _mark("SCHED_OTHER")


def _mark(policy: str) -> None:
    if not hasattr(os, policy):
        return
    try:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
    except OSError as error:
        LOG.warning("an engine at work may be interrupted more often: %s is not allowed (%s)", policy, error)
