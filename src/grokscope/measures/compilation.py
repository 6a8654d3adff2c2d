"""How the loops that numpy cannot express are compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Machine code at the first call, kept on disk for later processes.

    Sums may be reordered, so that they use vector instructions; NaN and infinity keep their
    meaning, and a division by zero gives infinity as in numpy. What is kept is renewed when the
    file of the function changes, not those of functions that it calls: they belong into one file.
    """
    decorate = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
    # tests may wrap every function in checks of its types, which cannot be compiled
    return cast(Function, decorate(inspect.unwrap(function)))
