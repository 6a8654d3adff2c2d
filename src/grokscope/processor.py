"""Which arithmetic of the processor a run uses, and what makes its last digits repeatable.

On x86 torch multiplies and decomposes matrices with Intel's MKL. Left to itself, MKL picks a
kernel by the operands' alignment in memory on some processors, AMD's among them: the same matrix
at another place of a stack, or in an array of numpy, then gives another last digit. Its
conditional numerical reproducibility (CNR) forbids that. AUTO takes the fastest branch of the
processor at hand; a branch by name, such as AVX2, exists on Intel's processors only, and MKL
silently takes AUTO where it does not. STRICT makes products equal for any number of threads, on
Intel's only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "MKL_CBWR"
REPEATABLE = "AUTO,STRICT"
X86 = ("x86_64", "amd64")
INFLUENCES = (  # variables by which the libraries of torch and numpy choose their kernels
    *(VARIABLE, "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
    *("DNNL_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
)
_BRANCHES = {  # mkl_types.h
    **{2: "AUTO", 3: "COMPATIBLE", 4: "SSE2", 6: "SSSE3", 7: "SSE4_1", 8: "SSE4_2", 9: "AVX"},
    **{10: "AVX2", 11: "AVX512_MIC", 12: "AVX512", 13: "AVX512_MIC_E1", 14: "AVX512_E1"},
}
_OFF, _STRICT, _ALL = 1, 0x10000, -1


def make_products_repeatable() -> None:
    """Have MKL multiply alike wherever operands lie, in this process and those that it starts.

    A value that the user has set stays, also an empty one, which means MKL's own choice. MKL
    reads the variable at its first product, so call this before torch is loaded.
    """
    if platform.machine().lower() in X86:
        os.environ.setdefault(VARIABLE, REPEATABLE)


def arithmetic() -> dict[str, Any]:
    """What the last digits of this process's numbers depend on.

    Returns:
        ``processor``: its name; ``environment``: the variables of ``INFLUENCES`` that are set;
        where torch is loaded ``mkl``: MKL's mode in effect (:func:`mkl_mode`), ``vectors``: the
        instructions of torch's own kernels, and ``threads``.
    """
    found: dict[str, Any] = {
        "processor": _processor(),
        "environment": {name: os.environ[name] for name in INFLUENCES if name in os.environ},
    }
    if torch := sys.modules.get("torch"):
        found["mkl"] = mkl_mode()
        found["vectors"] = torch.backends.cpu.get_cpu_capability()
        found["threads"] = torch.get_num_threads()
    return found


def mkl_mode() -> str | None:
    """MKL's mode in effect, such as ``AUTO,STRICT``, or ``off``; None where it cannot be told.

    From then on the mode is fixed.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.backends.mkl.is_available():
        return None
    with suppress(OSError, AttributeError):  # another build of torch: MKL in a library of its own
        library = ctypes.CDLL(str(_torch_library(Path(torch.__path__[0]))))
        return _in_words(library.mkl_serv_cbwr_get(_ALL))
    return None


def _torch_library(package: Path) -> Path:
    return package / "lib" / "libtorch_cpu.so"


def _in_words(mode: int) -> str | None:
    if mode == _OFF:
        return "off"
    branch = _BRANCHES.get(mode & ~_STRICT)
    return f"{branch},STRICT" if branch and mode & _STRICT else branch


def _processor() -> str | None:
    """Its name, which Python does not know on Linux."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None
