"""How the loops that numpy cannot express are compiled."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Machine code at the first call, kept on disk for later processes where that is possible.

    Sums may be reordered, so that they use vector instructions; NaN and infinity keep their
    meaning, and a division by zero gives infinity as in numpy. What is kept is renewed when the
    file of the function changes, not those of functions that it calls: they belong into one file.
    """
    decorate = numba.njit(error_model="numpy", fastmath={"reassoc", "contract"})
    # tests may wrap every function in checks of its types, which cannot be compiled
    dispatcher: Any = decorate(inspect.unwrap(function))
    if not hasattr(dispatcher, "py_func"):  # NUMBA_DISABLE_JIT
        return cast(Function, dispatcher)
    try:
        dispatcher._cache = _Kept(dispatcher.py_func)
    except (OSError, RuntimeError) as error:  # neither our folder nor the home can be written
        _tell(error)
    return cast(Function, dispatcher)


class _Kept(FunctionCache):
    """Machine code on disk; what cannot be read or written there is made anew.

    numba raises for a folder that has become read-only, a full disk, and a file that a power cut
    has left empty.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code of one signature; None if it is not there."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever pickle makes of a damaged file
            _tell(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code of one signature."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _tell(error)


_told: list[str] = []


def _tell(error: Exception) -> None:
    """Once a process."""
    if not _told:
        _told.append(str(error))
        log.warning(
            "Compiled loops are not kept on disk, so that each process takes some seconds longer: "
            "%s. NUMBA_CACHE_DIR names a folder for them.",
            error,
        )
