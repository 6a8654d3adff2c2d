"""Keeps freed activations in the process."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 2**25  # glibc takes no higher M_MMAP_THRESHOLD
KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks up to 32 MiB instead of returning them to the kernel.

    By default large activations are unmapped, or the heap trimmed, and page-faulted again at the
    next step: 5 % of a step of the p = 97 MLP. Linux with glibc only; elsewhere it does nothing.

    Returns:
        Whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
