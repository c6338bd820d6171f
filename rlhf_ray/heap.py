"""The memory that a process frees is kept for its next step: to give it back and fault it in again takes a third more.

glibc's words for it, with which a process begins (`keeping_variables`) or which it says later (`keep_freed_memory`).
"""

import ctypes
import platform

MIB = 2**20
NUMBERS = {"MMAP_THRESHOLD": -3, "TRIM_THRESHOLD": -1, "TOP_PAD": -2}  # in malloc.h


def keeping_variables() -> dict[str, str]:
    """The environment of a process that keeps what it frees."""
    return {f"MALLOC_{name}_": str(size) for name, size in _sizes().items()}


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees, up to 2 GB, where its C library is glibc."""
    if sizes := _sizes():
        library = ctypes.CDLL(None)
        for name, size in sizes.items():
            library.mallopt(NUMBERS[name], size)


def _sizes() -> dict[str, int]:
    """How large a buffer in the heap may be, how much free memory the heap keeps, and by how much it grows, in bytes.

    Before 2.36 a buffer above 32 MiB could be refused, and with it the word, which would leave 128 KiB.
    """
    name, version = platform.libc_ver()
    if name != "glibc":
        return {}
    is_old = tuple(map(int, version.split(".")[:2])) < (2, 36)
    return {"MMAP_THRESHOLD": 32 * MIB if is_old else 1_000 * MIB, "TRIM_THRESHOLD": 2_000 * MIB, "TOP_PAD": 64 * MIB}
