"""Grokking experiments and exact gradient outer products while networks train.

The names below are imported when they are first used, so that reading a run needs neither torch
nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grokscope.analysis import Run, runs
    from grokscope.callbacks import GOPCallback

_WHERE = {
    "GOPCallback": "grokscope.callbacks",
    "Run": "grokscope.analysis",
    "runs": "grokscope.analysis",
}
_ROOMS = ("analysis", "callbacks", "data", "gradients", "measures", "models", "nets", "store")

__all__ = ["GOPCallback", "Run", "runs"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _ROOMS:
        return import_module(f"grokscope.{name}")
    raise AttributeError(f"module 'grokscope' has no attribute {name!r}")
