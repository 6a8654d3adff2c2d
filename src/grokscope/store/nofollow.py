"""Opens files of a folder that may come from a stranger: no link in it is followed.

The path to a run's folder is the user's own and may have links. What lies in the folder is the
run's: a link there would let a stranger name any file of the user as ``run.json`` or
``figures/``. So the last name of a path is opened without following it, and the folders below a
run's folder are looked at one by one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OTHER_KINDS = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP}
"""What opening a link (the first two), a FIFO or socket, a folder, or a socket on macOS gives."""


SHARED = ("checkpoints",)  # in which files are never written in place, and may have other names


class NotPlainFileError(ValueError):
    """Where a file or folder of a run should be, there is a link or something else.

    Attributes:
        came: What is there, in words.
    """

    def __init__(self, path: Path, wanted: str) -> None:
        self.came = _kind(path)
        super().__init__(f"{path} must be {wanted}, got {self.came}.")


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of a regular file, opened without following a link or waiting for a writer.

    Raises:
        NotPlainFileError: If it is a link, a folder, a device, a FIFO or a socket; for writing,
            also if it has other names (hard links), under which it would change unseen.
        OSError: As ``os.open``.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags & ~os.O_TRUNC, mode)
    except OSError as error:
        if error.errno in OTHER_KINDS:
            raise NotPlainFileError(path, "a regular file") from None
        raise
    try:
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode):
            raise NotPlainFileError(path, "a regular file")
        if flags & (os.O_WRONLY | os.O_RDWR):
            check_one_name(path, there)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_one_name(path: Path, there: os.stat_result) -> None:
    """Refuse to write in place to a file that has other names: it would change there unseen.

    Raises:
        NotPlainFileError: If it has hard links.
    """
    if there.st_nlink > 1:
        raise NotPlainFileError(path, "a file of one name to be written in place")


def check_replaceable(path: Path) -> None:
    """Refuse to put a file where something other than a regular file is.

    Raises:
        NotPlainFileError: If there is a link, a folder, a device, a FIFO or a socket.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise NotPlainFileError(path, "a regular file or nothing")


def subfolder(root: Path, *names: str, create: bool = False) -> Path:
    """A folder below a run's folder ``root``, none of whose names is a link.

    Raises:
        NotPlainFileError: If one of them is a link or a file.
        FileNotFoundError: If one is missing and is not to be made.
    """
    path = root
    for name in names:
        path = path / name
        if create:
            with suppress(FileExistsError):
                path.mkdir()
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotPlainFileError(path, "a folder")
    return path


def readable_subfolder(root: Path, name: str) -> Path:
    """The same for reading, where the folder may be a link to one of the same owner.

    People keep checkpoints on a scratch disk.

    Raises:
        NotPlainFileError: If it is a file, or a link to anything else.
        FileNotFoundError: If it is missing.
    """
    path = root / name
    there = path.stat()
    if path.is_symlink() and there.st_uid != root.stat().st_uid:
        raise NotPlainFileError(path, "a folder of the run's owner")
    if not stat.S_ISDIR(there.st_mode):
        raise NotPlainFileError(path, "a folder")
    return path


def check_no_links(root: Path, left_out: tuple[str, ...] = ()) -> None:
    """Refuse a run's folder to be written to if a link or a pipe lies in it or in a folder there.

    So is a file with other names (hard links): some are written in place.

    Args:
        root: The run's folder.
        left_out: Names of folders below in which links are in order.

    Raises:
        NotPlainFileError: Naming the link.
    """
    for folder in (root, *_plain_entries(root)):
        if folder.name not in left_out or folder == root:
            for _ in _plain_entries(folder):
                pass


def _plain_entries(folder: Path) -> Iterator[Path]:
    """The folders in a folder, which has nothing but these and files."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                raise NotPlainFileError(Path(entry.path), "a file of the run")
            elif folder.name not in SHARED:
                check_one_name(Path(entry.path), entry.stat(follow_symlinks=False))


def _kind(path: Path) -> str:
    try:
        there = os.lstat(path)
    except OSError:
        return "something else"
    if stat.S_ISREG(there.st_mode) and there.st_nlink > 1:
        return f"one with {there.st_nlink} names (hard links): make a copy"
    kinds = {
        stat.S_IFLNK: "a symbolic link, which is not followed",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFREG: "a file",
    }
    return kinds.get(stat.S_IFMT(there.st_mode), "something else")
