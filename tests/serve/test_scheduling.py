"""Who interrupts whom is a matter of speed: a system that does not let us say it serves all the same."""

import logging
import os
import subprocess
import sys

import pytest

from serve.scheduling import interrupt_nobody

CODE = """
import os, subprocess, sys
from serve.scheduling import interrupt_as_usual, interrupt_nobody
ask = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)"]
interrupt_nobody()
print(subprocess.check_output(ask, text=True).strip())
interrupt_as_usual()
print(subprocess.check_output(ask, text=True).strip())
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has it")
def test_what_a_server_starts_interrupts_nobody_until_it_says_otherwise() -> None:
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split() == ["True", "False"]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has it")
def test_a_system_that_does_not_allow_it_is_served_from_as_well(monkeypatch, caplog) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with caplog.at_level(logging.WARNING):
        interrupt_nobody()
    assert "SCHED_BATCH is not allowed" in caplog.text
