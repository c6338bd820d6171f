"""A process that keeps what it frees does not fault it in again."""

import os
import platform
import subprocess
import sys

import pytest

from rlhf_ray.heap import keeping_variables

TIMES, PAGES = 5, 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # that are allocated and freed each time
FAULTS = """
import ctypes
import resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages: a fault would bring 512 pages at once
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
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    said = subprocess.run(command, env=own | (variables or {}), check=True, capture_output=True, text=True)
    return int(said.stdout) // TIMES


@pytest.mark.skipif("MALLOC_MMAP_THRESHOLD_" not in keeping_variables(), reason="only glibc is told to")
@pytest.mark.skipif(platform.libc_ver()[1] < "2.36", reason="older ones keep nothing so large")
def test_freed_memory_is_kept_from_the_start_or_from_when_it_is_said() -> None:
    assert faults() > PAGES / 2, "by itself glibc gives it back"
    assert faults(variables=keeping_variables()) < PAGES / 10
    assert faults("from rlhf_ray.heap import keep_freed_memory; keep_freed_memory()") < PAGES / 10
