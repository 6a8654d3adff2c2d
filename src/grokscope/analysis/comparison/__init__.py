"""Several runs beside each other, as plain data: groups, bands, tables, and what moves first.

Start from :func:`run_groups`, whose runs are :class:`Snapshot`: give these to all others, so that
each array is read once.
"""

from grokscope.analysis.comparison.bands import Band, band
from grokscope.analysis.comparison.change_points import ChangePoint, change_point
from grokscope.analysis.comparison.grouping import RunGroup, RunGroups, run_groups
from grokscope.analysis.comparison.order import Mover, movers
from grokscope.analysis.comparison.phase_diagram import PhaseDiagram, phase_diagram
from grokscope.analysis.comparison.snapshot import Snapshot
from grokscope.analysis.comparison.table import TableRow, comparison_table

__all__ = [
    "Band",
    "ChangePoint",
    "Mover",
    "PhaseDiagram",
    "RunGroup",
    "RunGroups",
    "Snapshot",
    "TableRow",
    "band",
    "change_point",
    "comparison_table",
    "movers",
    "phase_diagram",
    "run_groups",
]
