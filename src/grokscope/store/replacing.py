"""Files that are replaced whole, so that neither a kill nor a power cut leaves half of one.

A new file is written beside the old one under a name of its own, reaches the disk, takes the
old one's name, and then the folder reaches the disk. Without the first ``fsync`` a power cut
leaves a file of zero length under the right name (XFS always, ext4 often), without the second
the old file or none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from grokscope.store.nofollow import check_replaceable

KEPT_CHARACTERS = 32  # the last of a name in its draft's: names may have 255 bytes already
ABANDONED_SECONDS = 3600.0
NO_FULL_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOTTY}
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}
DRAFT = re.compile(rf"\.(.{{0,{KEPT_CHARACTERS}}})\.\d+-[0-9a-f]{{8}}\.part")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that takes the place of ``path`` at the end.

    If the block raises, the draft is removed and ``path`` stays as it is.

    Raises:
        NotPlainFileError: If ``path`` is there and no regular file; nothing is written.
        OSError: If the file cannot be written or does not reach the disk.
    """
    check_replaceable(path)
    draft = draft_of(path)
    try:
        with naming(path), new_draft(draft) as file:
            yield file
        publish(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace_bytes(path: Path, content: bytes) -> Path:
    """Put this content in the place of a file. Errors as for :func:`replacing`."""
    with replacing(path) as file:
        file.write(content)
    return path


def replace_text(path: Path, text: str) -> Path:
    """The same with text, as UTF-8."""
    return replace_bytes(path, text.encode("utf-8"))


def draft_of(path: Path) -> Path:
    """A name beside ``path`` that no other draft has."""
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[-KEPT_CHARACTERS:]}.{mark}.part")


@contextmanager
def new_draft(draft: Path) -> Iterator[BinaryIO]:
    """A file that was not there before; on the disk when the block ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o666), "w+b") as file:
        yield file
        file.flush()
        to_disk(file.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system name this file where it knows a descriptor only."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def to_disk(fd: int) -> None:
    """Return when the content of a file is on the disk: on macOS too, where fsync does less."""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        try:
            fcntl.fcntl(fd, full)
        except OSError as error:  # of a network file system, say
            if error.errno not in NO_FULL_SYNC:
                raise
            os.fsync(fd)
    else:
        getattr(os, "fdatasync", os.fsync)(fd)


def publish(draft: Path, path: Path) -> None:
    """Give a draft that is on the disk its name, for good."""
    os.replace(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk; some network file systems cannot say so."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with naming(folder):
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, for good."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        sync_folder(place.parent)


def remove_drafts(
    folder: Path, suffixes: tuple[str, ...], older_than: float = ABANDONED_SECONDS
) -> None:
    """Remove what killed processes have left of files that they were to replace.

    Args:
        folder: Where they lie.
        suffixes: Of the files' names.
        older_than: Seconds since they were written to; 0 where no other process can be at work.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            draft = DRAFT.fullmatch(entry.name)
            if draft and draft[1].endswith(suffixes):
                with suppress(FileNotFoundError):
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    if age >= older_than:
                        os.unlink(entry.path)
