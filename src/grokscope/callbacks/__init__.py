"""Lightning glue: when to measure, what, and where it goes."""

from grokscope.callbacks.checkpoint import Checkpoints
from grokscope.callbacks.csv_logger import CSVLogger
from grokscope.callbacks.gop import GOPCallback
from grokscope.callbacks.progress import ProgressBar
from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.callbacks.stop import Preempted, StopOnSignal

__all__ = [
    "CSVLogger",
    "Checkpoints",
    "GOPCallback",
    "Preempted",
    "ProgressBar",
    "ProgressMeasure",
    "StopOnSignal",
]
