"""HDF5 files of a run: layout, writer, reader. No torch here."""
