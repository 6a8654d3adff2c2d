"""Opens HDF5 files: without following a link, without locks, and so that no error is lost.

h5py opens by name, and the name may lead elsewhere by then; so the file is opened first and HDF5
gets the descriptor. Without locks, since some network file systems have none and HDF5 would not
open a file there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from grokscope.store.headers import Headers
from grokscope.store.nofollow import open_regular
from grokscope.store.pwrite import write_at
from grokscope.store.replacing import new_draft
from grokscope.store.signals import signals_wait

DESCRIPTORS = Path("/proc/self/fd")  # Linux: opening a name in it opens that very file
ATTEMPTS = 10  # to open a file that others take the place of


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """A file for reading, whose ``headers`` check its nodes.

    Raises:
        NotPlainFileError: If it is a link, or no file at all.
        OSError: If it cannot be opened, or HDF5 cannot read it.
    """
    file, fd = _opened(path)
    try:
        with file:
            file.headers = Headers(fd)
            yield file
    finally:
        os.close(fd)


def _opened(path: Path, attempts: int = ATTEMPTS) -> tuple[h5py.File, int]:
    """The file of that name; the next one if another takes its place just now.

    A run that ends renames a file over another, and HDF5 opens no file whose name is gone. Nor
    does it try again after a signal, as Python does.
    """
    fd = open_regular(path)
    try:
        return _opened_by(fd), fd
    except BaseException as error:
        again = isinstance(error, OSError) and (
            error.errno == errno.EINTR or not os.fstat(fd).st_nlink
        )
        os.close(fd)
        if not again or attempts == 1:
            raise
    return _opened(path, attempts - 1)


def _opened_by(fd: int) -> h5py.File:
    if DESCRIPTORS.is_dir():
        try:
            return h5py.File(DESCRIPTORS / str(fd), "r", locking=False)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, os.strerror(error.errno)) from error  # without its name
    return h5py.File(_Bytes(fd), "r")


@contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new file, and a function that raises what has gone wrong so far; signals wait for it.

    It is on the disk when the block ends, or removed if that fails.

    HDF5 does not survive an error of the system while it writes: it ends the process, or h5py
    swallows the error of a dataset that it closes and the file has zeros there. So HDF5 writes
    to an object that remembers the first error and takes all that follows without a word.

    Raises:
        FileExistsError: If there is something of that name.
        OSError: If it cannot be written, or does not reach the disk.
    """
    try:
        with new_draft(path) as raw, signals_wait() as answer_signals:
            target = _Target(raw)

            def check() -> None:
                answer_signals()
                target.check()

            with h5py.File(target, "w", libver="v108") as file:
                yield file, check
            target.check()
    except FileExistsError:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Bytes:
    """The content of a descriptor, for h5py's driver of file-like objects."""

    def __init__(self, fd: int) -> None:
        self._fd, self._place = fd, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._place, os.fstat(self._fd).st_size)[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        content = os.pread(self._fd, size, self._place)
        self._place += len(content)
        return content

    def readinto(self, buffer: memoryview) -> int:
        count = os.preadv(self._fd, [buffer], self._place)
        self._place += count
        return count


class _Target(_Bytes):
    """Where HDF5 writes a new file; see :func:`new_hdf5`."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(raw.fileno())
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that there was."""
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        self._do(lambda: write_at(self._fd, data, self._place))
        self._place += len(data)
        return len(data)

    def truncate(self, size: int) -> int:
        self._do(lambda: os.ftruncate(self._fd, size))
        return size

    def flush(self) -> None:
        """Nothing waits here."""

    def _do(self, action: Callable[[], None]) -> None:
        if self._error is None:
            try:
                action()
            except OSError as error:
                self._error = error
