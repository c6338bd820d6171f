"""The memory that a process frees is kept for its next step: to give it back and fault it in again takes a third more.

glibc's words for it, with which a process begins (`keeping_variables`) or which it says later (`keep_freed_memory`).
"""

import ctypes
import sys

# What one allocation may take from the heap, how much free memory the heap keeps, and by how much it grows, in bytes;
# before each its number in malloc.h.
KEEPING = {"MMAP_THRESHOLD": (-3, 1_000_000_000), "TRIM_THRESHOLD": (-1, 2_000_000_000), "TOP_PAD": (-2, 64 * 2**20)}


def keeping_variables() -> dict[str, str]:
    """The environment of a process that keeps what it frees."""
    return {f"MALLOC_{name}_": str(size) for name, (_, size) in KEEPING.items()}


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees, where its C library is glibc."""
    say = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if say:
        for number, size in KEEPING.values():
            say(number, size)
