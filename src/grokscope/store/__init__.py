"""HDF5 files of a run: layout, writer, reader. No torch here."""

from grokscope.store.lazy import LazyGOP
from grokscope.store.run import Run, runs
from grokscope.store.run_writer import RunWriter

__all__ = ["LazyGOP", "Run", "RunWriter", "runs"]
