"""Sweeps: which of their runs are done, and one table of all of them."""

from grokscope.analysis.sweeps.collection import collect, write_csv
from grokscope.analysis.sweeps.forecast import time_left
from grokscope.analysis.sweeps.queue import queued
from grokscope.analysis.sweeps.states import RunState, states
from grokscope.analysis.sweeps.tables import (
    counts,
    duration,
    forecast_text,
    state_table,
    status_text,
)

__all__ = [
    "RunState",
    "collect",
    "counts",
    "duration",
    "forecast_text",
    "queued",
    "state_table",
    "states",
    "status_text",
    "time_left",
    "write_csv",
]
