"""The content that a file may have after a power cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

PAGE = 4096


class Survivors(Protocol):
    """Chooses what of a file's unsynced changes has reached the disk."""

    def page(self, file: File, versions: int) -> int:
        """How many of the changes of a page, which come one after the other."""

    def size(self, file: File, sizes: int) -> int:
        """Which of the sizes that the file has had since it was synced; the last one is now's."""


class File:
    """A file: what was synced last, and what was changed since.

    A system writes pages back in any order, each as it is at some moment, so after a cut each
    page may have any of its versions. A file's size is written back by itself.

    Args:
        content: On the disk already.
    """

    def __init__(self, content: bytes = b"") -> None:
        self.synced = content
        self._changes: list[tuple[int, bytes]] = []  # offset, data
        self._sizes = [len(content)]

    @property
    def unsynced(self) -> bool:
        return bool(self._changes) or len(self._sizes) > 1

    @property
    def size(self) -> int:
        return self._sizes[-1]

    def write(self, offset: int, data: bytes) -> None:
        self._changes.append((offset, data))
        self._resize(max(self.size, offset + len(data)))

    def truncate(self, length: int) -> None:
        """Cut bytes off, or add zeros."""
        if length < self.size:
            self._changes.append((length, bytes(self.size - length)))
        self._resize(length)

    def allocate(self, stop: int) -> None:
        self._resize(max(self.size, stop))

    def _resize(self, size: int) -> None:
        if size != self.size:
            self._sizes.append(size)

    def sync(self) -> None:
        """What has been written until now stays."""
        self.synced = self.now()
        self._changes, self._sizes = [], [self.size]

    def now(self) -> bytes:
        """What a process reads."""
        return self.after(_All())

    def after(self, survivors: Survivors) -> bytes:
        """What is there after a cut."""
        if not self.unsynced:
            return self.synced
        pages = Counter(page for change in self._changes for page, *_ in _by_page(*change))
        kept = {page: survivors.page(self, count) for page, count in sorted(pages.items())}
        size = self._sizes[survivors.size(self, len(self._sizes))]
        content = bytearray(self.synced.ljust(max(size, *self._sizes), b"\0"))
        for change in self._changes:
            for page, start, data in _by_page(*change):
                if kept[page] > 0:
                    kept[page] -= 1
                    content[start : start + len(data)] = data
        return bytes(content[:size])


class _All:
    def page(self, file: File, versions: int) -> int:
        return versions

    def size(self, file: File, sizes: int) -> int:
        return sizes - 1


def _by_page(offset: int, data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The parts of a write that lie on one page each: page, offset, data."""
    start = offset
    while start < offset + len(data):
        page = start // PAGE
        stop = min((page + 1) * PAGE, offset + len(data))
        yield page, start, data[start - offset : stop - offset]
        start = stop
