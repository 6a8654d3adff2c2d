"""Copies what ``torch.save`` has put into a file that may come from anybody."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from grokscope.app.pickles import check_pickle
from grokscope.store.memory import check_memory
from grokscope.store.nofollow import open_regular

PICKLE = "data.pkl"
MEMBER = re.compile(
    r"(?P<top>[^/\\\0]+)/(?P<name>data\.pkl|data/[0-9]{1,9}|byteorder|version"
    r"|\.format_version|\.storage_alignment|\.data/serialization_id)",
    re.ASCII,
)
MOST_DIRECTORY = 2**24  # bytes of the central directory: about 200,000 tensors
MOST_PICKLE = 2**22  # bytes: about 25,000 tensors, and some seconds
MOST_NOTE = 64  # bytes of a member that is neither the pickle nor a tensor
CHUNK = 2**20
END64, LOCATOR, END = 56, 20, 22  # bytes of the records after the directory
ENCRYPTED = 0x1
LINK, FILE_TYPE = 0o120000, 0o170000
NOT_OURS = "not one of torch.save's archives"
OTHER = "not one, or one with more than tensors and numbers"


def checked_copy(path: Path) -> tuple[BytesIO, int]:
    """An archive of the file's members, each of which has been looked at, and the file's size.

    A ZIP file may be read in several ways: by this directory or that one, by the headers before
    the members or those at the end. What one reader checks, another need not load. So nothing
    that lies on the disk is given to ``torch.load``: the file is opened and parsed once, and what
    was read is written into a new archive, which has one directory and no ambiguity.

    Takes time and memory in proportion to the file: the copy in memory, and the tensors when they
    are loaded from it.

    Raises:
        ValueError: Naming what is wrong.
        OSError: If the file cannot be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        _check_directory(file, size)
        check_memory("it", 2 * size)
        try:
            with ZipFile(file) as source:
                return _copied(source, size), size
        except (BadZipFile, EOFError, RuntimeError, UnicodeError, struct.error) as error:
            raise ValueError(f"it is damaged ({error})") from error


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a file that does not end with a directory of a bounded size, before it is parsed.

    The end of ZIP64, where there is one, lies before the end proper and says the size once more.
    """
    file.seek(max(0, size - END64 - LOCATOR - END))
    tail = file.read(END64 + LOCATOR + END).rjust(END64 + LOCATOR + END, b"\0")
    end64, locator, end = tail[:END64], tail[END64:-END], tail[-END:]
    lengths = [int.from_bytes(end[12:16], "little")]
    whole = end.startswith(b"PK\5\6") and not any(end[-2:])  # the length of a comment
    if locator.startswith(b"PK\6\7"):
        place = int.from_bytes(locator[8:16], "little")
        whole = whole and end64.startswith(b"PK\6\6") and place == size - len(tail)
        lengths.append(int.from_bytes(end64[40:48], "little"))
    if not whole:
        raise ValueError(f"it cannot be read: {NOT_OURS}")
    if max(lengths) > MOST_DIRECTORY:
        raise ValueError(f"its directory has more than {MOST_DIRECTORY:,} bytes")


def _copied(source: ZipFile, size: int) -> BytesIO:
    parts = source.infolist()
    _check_parts(parts, size)
    copy = BytesIO()
    with ZipFile(copy, "w", ZIP_STORED) as target:
        for part in parts:
            own = ZipInfo(part.filename)
            own.file_size = part.file_size  # whether it needs ZIP64
            with target.open(own, "w") as member:
                for block in _blocks(source, part):
                    member.write(block)
    copy.seek(0)
    return copy


def _check_parts(parts: list[ZipInfo], size: int) -> None:
    """Refuse members unlike those of ``torch.save``: their names, sizes, places and forms."""
    if any(part.compress_type != ZIP_STORED for part in parts):
        raise ValueError("it is compressed")
    if sum(part.file_size for part in parts) > size:
        raise ValueError("its parts claim more bytes than it has")
    found = [MEMBER.fullmatch(part.filename) for part in parts]
    names = {match["name"] for match in found if match}
    tops = {match["top"] for match in found if match}
    begin = min((part.header_offset for part in parts), default=-1)
    if len(names) < len(parts) or len(tops) != 1 or PICKLE not in names or begin:
        raise ValueError(NOT_OURS)
    for part in parts:
        _check_part(part)


def _check_part(part: ZipInfo) -> None:
    if part.flag_bits & ENCRYPTED or part.compress_size != part.file_size:
        raise ValueError(f"its part {part.filename!r} is encrypted or of two sizes")
    if part.external_attr >> 16 & FILE_TYPE == LINK:
        raise ValueError(f"its part {part.filename!r} is a link")
    most = MOST_PICKLE if part.filename.endswith(PICKLE) else MOST_NOTE
    if "/data/" not in part.filename and part.file_size > most:
        raise ValueError(f"its part {part.filename!r} has more than {most:,} bytes")


def _blocks(source: ZipFile, part: ZipInfo) -> Iterator[bytes]:
    """The bytes of a member, whose checksum is compared at its end; a pickle is looked through."""
    try:
        if part.filename.endswith(PICKLE):
            content = source.read(part)
            _check_pickle(content)
            yield content
            return
        with source.open(part) as member:
            while block := member.read(CHUNK):
                yield block
    except (BadZipFile, EOFError) as error:
        raise ValueError(f"its part {part.filename!r} is damaged") from error


def _check_pickle(content: bytes) -> None:
    try:
        check_pickle(content)
    except ValueError as error:
        raise ValueError(f"{OTHER}: {error}") from None
