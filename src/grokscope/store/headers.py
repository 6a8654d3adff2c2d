"""Looks at the structure of an HDF5 file where the HDF5 library does not defend itself.

Texts in attributes and the maps of virtual datasets lie in *global heaps*, which carry no
checksum; HDF5 2.0 reads a heap with a block of zeros in it for ever. So before the library opens
a node, its header is read here, and the heaps that it refers to are checked. Everything else that
our files consist of carries checksums or has been found to be refused by the library.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

LAYOUT, ATTRIBUTE, CONTINUATION, ATTRIBUTES_ELSEWHERE = 0x08, 0x0C, 0x10, 0x15
VARIABLE, TEXT, VIRTUAL = 9, 1, 3  # class of a type, its kind, class of a layout
KNOWN = {0, 1, 3, 8, VARIABLE}  # integers, floats, texts, booleans
SHARED = 2  # what a message says lies elsewhere
NOWHERE = 2**64 - 1
HEAP = b"GCOL\x01"  # how a global heap begins
SCANNED = 2**24  # bytes looked through at once
MOST_HEADER = 2**24
MOST_BLOCKS = 1000

Message = tuple[int, bytes]


class Headers:
    """The object headers of one file, read beside the library.

    Args:
        fd: The open file.

    Raises:
        ValueError: If a header, or a heap that it refers to, is not as ours are.
    """

    def __init__(self, fd: int) -> None:
        self._fd, about = fd, os.fstat(fd)
        self._size, self.inode = about.st_size, about.st_ino
        self._checked: set[int] = set()
        self._all_heaps = False

    def root(self) -> int:
        """Address of the top level."""
        block = self._read(0, 48)
        if block[8] in (0, 1):
            raise ValueError(
                "it is in HDF5's oldest format, in which h5repack and h5py write unless they are "
                "told otherwise, and which has no checksums: write it anew with libver='v108'."
            )
        base, _, _, root = struct.unpack_from("<4Q", block, 12)
        if block[8] not in (2, 3) or block[9:11] != b"\x08\x08" or base:
            raise ValueError("must be a grokscope file, got one without a schema.")
        return int(root)

    def check(self, address: int) -> None:
        """Refuse a node that leads the library into a damaged heap."""
        if address in self._checked:
            return
        for kind, body in self._messages(address):
            if kind == ATTRIBUTES_ELSEWHERE and _is_used(body):
                self._check_every_heap()
            for heap in _heaps(kind, body):
                self._check_heap(heap)
        self._checked.add(address)

    def _check_every_heap(self) -> None:
        """Check whatever may be a heap: more than eight attributes of a node lie elsewhere.

        A user has added some. Where they are carries checksums, the heaps of their texts do not;
        instead of following how they are stored, look for the mark with which a heap begins.
        """
        if self._all_heaps:
            return
        overlap, start = len(HEAP) - 1, 0
        while (start := _next_data(self._fd, start, self._size)) < self._size:
            block = os.pread(self._fd, SCANNED + overlap, start)
            place = block.find(HEAP)
            while place >= 0:
                self._check_heap(start + place)
                place = block.find(HEAP, place + 1)
            start += SCANNED
        self._all_heaps = True

    def _read(self, address: int, count: int) -> bytes:
        if not 0 <= address <= self._size - count:
            raise ValueError(f"its structure leads beyond its {self._size:,} bytes.")
        return os.pread(self._fd, count, address)

    def _messages(self, address: int) -> Iterator[Message]:
        """Of one header, the blocks in which it goes on included."""
        start = self._read(address, 6)
        flags = start[5] if start[:5] == b"OHDR\x02" else None
        if flags is None and start[:2] != b"\x01\x00":
            raise ValueError("a header in it is damaged.")
        blocks = [self._first_block(address, flags)]
        for number, (place, size) in enumerate(blocks):
            if number > MOST_BLOCKS or size > MOST_HEADER:
                raise ValueError("a header in it is too long.")
            for kind, body in _split(self._read(place, size), flags):
                if kind == CONTINUATION:
                    place, size = struct.unpack_from("<QQ", body.ljust(16, b"\xff"))
                    blocks.append((place, size) if flags is None else (place + 4, size - 8))
                yield kind, body

    def _first_block(self, address: int, flags: int | None) -> tuple[int, int]:
        """Where the messages begin, and their bytes; the flags are None in version 1."""
        if flags is None:
            return address + 16, int.from_bytes(self._read(address + 8, 4), "little")
        begin = address + 6 + 16 * bool(flags & 32) + 4 * bool(flags & 16)
        width = 1 << (flags & 3)
        return begin + width, int.from_bytes(self._read(begin, width), "little")

    def _check_heap(self, address: int) -> None:
        """Refuse a heap whose objects do not follow each other up to its end."""
        if address in self._checked or address == NOWHERE:
            return
        start = self._read(address, 16)
        size = int.from_bytes(start[8:], "little")
        if start[:5] != HEAP or size > MOST_HEADER:
            raise ValueError("a heap in it is damaged.")
        heap, place = self._read(address, size), 16
        while place + 16 <= size:
            number, length = struct.unpack_from("<H6xQ", heap, place)
            taken = 16 + (length + 7) // 8 * 8 if number else length
            if taken < 16 or place + taken > size:
                raise ValueError("a heap in it is damaged.")
            place += taken
        self._checked.add(address)


def _next_data(fd: int, start: int, size: int) -> int:
    """Where a file has content from ``start`` on; holes read as zeros and may be huge."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else start  # none left, or not known


def _split(block: bytes, flags: int | None) -> Iterator[Message]:
    form = "<HHB3x" if flags is None else "<BHB2x" if flags & 4 else "<BHB"
    place, before = 0, struct.calcsize(form)
    while place + before <= len(block):
        kind, size, about = struct.unpack_from(form, block, place)
        if about & SHARED and kind in (LAYOUT, ATTRIBUTE):
            raise ValueError("a header in it is not one of ours.")
        place += before
        yield kind, block[place : place + size]
        place += size


def _heaps(kind: int, body: bytes) -> list[int]:
    """Addresses of the heaps that a message refers to."""
    if kind == LAYOUT and len(body) > 9 and body[0] >= 4 and body[1] == VIRTUAL:
        return [int.from_bytes(body[2:10], "little")]
    return _heaps_of_attribute(body) if kind == ATTRIBUTE else []


def _is_used(body: bytes) -> bool:
    """Whether the message of a node's further attributes leads to any."""
    place = 2 + 2 * (body[1] & 1)
    return int.from_bytes(body[place : place + 8], "little") != NOWHERE


def _heaps_of_attribute(body: bytes) -> list[int]:
    version, flags, *sizes = struct.unpack("<BB3H", body[:8].ljust(8, b"\xff"))
    if version not in (1, 2, 3) or (flags and version > 1):
        raise ValueError("an attribute in it is damaged.")
    name, kind, space = (-(-size // 8) * 8 if version == 1 else size for size in sizes)
    place = 8 + (version == 3) + name
    about = body[place : place + 2].ljust(2, b"\xff")
    variable = about[0] & 15 == VARIABLE
    if about[0] & 15 not in KNOWN or (variable and about[1] & 15 != TEXT):
        raise ValueError("an attribute in it is neither a number nor a text.")
    values = body[place + kind + space :] if variable else b""
    return [int.from_bytes(values[i + 4 : i + 12], "little") for i in range(0, len(values), 16)]
