"""Keeps freed activations in the process."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LIMIT = 2**30


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks below 1 GiB instead of returning them to the kernel.

    By default each large activation is mapped, page-faulted and unmapped at every step. Linux
    with glibc only; elsewhere it does nothing.

    Returns:
        Whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LIMIT)) and bool(mallopt(M_TRIM_THRESHOLD, LIMIT))
