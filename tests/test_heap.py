"""A process that keeps what it frees does not fault it in again."""

import os
import platform
import subprocess
import sys

import pytest

from rlhf_ray.heap import keeping_variables

TIMES, PAGES = 5, 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # that are allocated and freed each time
FAULTS = """
import resource
{words}
def use():
    for _ in range({times}):
        bytearray(b'.') * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-use() + use())
"""


def faults(words: str = "", variables: dict[str, str] | None = None) -> int:
    """Page faults of a new process when it allocates 64 MiB that it has just freed, each time on average."""
    command = [sys.executable, "-c", FAULTS.format(words=words, times=TIMES)]
    said = subprocess.run(command, env=os.environ | (variables or {}), check=True, capture_output=True, text=True)
    return int(said.stdout) // TIMES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_freed_memory_is_kept_from_the_start_or_from_when_it_is_said() -> None:
    assert faults() > PAGES / 2, "by itself glibc gives it back"
    assert faults(variables=keeping_variables()) < PAGES / 10
    assert faults("from rlhf_ray.heap import keep_freed_memory; keep_freed_memory()") < PAGES / 10
