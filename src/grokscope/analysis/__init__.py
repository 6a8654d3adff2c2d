"""Finished or running runs to grokking times, tables and figures. No torch here."""

from grokscope.analysis.grokking import GrokkingTimes, grokking_times
from grokscope.analysis.run import Run, runs

__all__ = ["GrokkingTimes", "Run", "grokking_times", "runs"]
