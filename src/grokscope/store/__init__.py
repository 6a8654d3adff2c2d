"""HDF5 files of a run: layout, writer, reader. No torch here."""

from grokscope.store.lazy import LazyGOP
from grokscope.store.run_writer import RunWriter
from grokscope.store.tables import TableFile

__all__ = ["LazyGOP", "RunWriter", "TableFile"]
