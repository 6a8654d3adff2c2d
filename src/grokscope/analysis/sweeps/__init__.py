"""Sweeps: which of their runs are done, and one table of all of them."""

from grokscope.analysis.sweeps.collection import collect, write_csv
from grokscope.analysis.sweeps.states import RunState, states, time_left
from grokscope.analysis.sweeps.tables import counts, state_table

__all__ = [
    "RunState",
    "collect",
    "counts",
    "state_table",
    "states",
    "time_left",
    "write_csv",
]
