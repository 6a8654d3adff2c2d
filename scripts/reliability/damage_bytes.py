"""Ways to damage the bytes of a file, whatever it is, each drawn from a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

EXTREMES = (2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40, 0, 1)
HEADER = b"OHDR"  # of an HDF5 object, closed by a checksum


@dataclass(frozen=True)
class Victim:
    """A whole file, before it is damaged.

    Attributes:
        content: Its bytes.
        other: Those of another valid file of its kind.
        canary: What a payload makes, if it runs.
    """

    content: bytes
    other: bytes
    canary: Path

    @property
    def command(self) -> str:
        """For a shell."""
        return f"touch {self.canary}"

    @cached_property
    def structure(self) -> list[tuple[int, int]]:
        """Blocks of an HDF5 file's structure from start to checksum; none in another file."""
        found = [(0, 44)] if self.content.startswith(b"\x89HDF") else []
        start = self.content.find(HEADER)
        while found and start >= 0:
            if end := _header_end(self.content, start):
                found.append((start, end))
            start = self.content.find(HEADER, start + 4)
        return found


Damage = Callable[[random.Random, Victim], bytes]


def _header_end(content: bytes, start: int) -> int | None:
    """Where the checksum of an object header lies; None if it is none."""
    flags = content[start + 5]
    begin = start + 6 + 16 * bool(flags & 32) + 4 * bool(flags & 16)
    width = 1 << (flags & 3)
    end = begin + width + int.from_bytes(content[begin : begin + width], "little")
    whole = checksum(content[start:end]).to_bytes(4, "little") == content[end : end + 4]
    return end if whole else None


def checksum(data: bytes) -> int:
    """HDF5's: Jenkins' lookup3."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & mask

    def turn(x: int, by: int) -> int:
        return ((x << by) | (x >> (32 - by))) & mask

    whole = max(0, (len(data) - 1) // 12)
    rest = data[12 * whole :].ljust(12, b"\0")
    for x, y, z in struct.iter_unpack("<3I", data[: 12 * whole]):
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        a = ((a - c) & mask) ^ turn(c, 4)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ turn(a, 6)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ turn(b, 8)
        b = (b + a) & mask
        a = ((a - c) & mask) ^ turn(c, 16)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ turn(a, 19)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ turn(b, 4)
        b = (b + a) & mask
    if not data:
        return c
    a, b, c = ((v + w) & mask for v, w in zip((a, b, c), struct.unpack("<3I", rest), strict=True))
    c = ((c ^ b) - turn(b, 14)) & mask
    a = ((a ^ c) - turn(c, 11)) & mask
    b = ((b ^ a) - turn(a, 25)) & mask
    c = ((c ^ b) - turn(b, 16)) & mask
    a = ((a ^ c) - turn(c, 4)) & mask
    b = ((b ^ a) - turn(a, 14)) & mask
    return ((c ^ b) - turn(b, 24)) & mask


def _place(draw: random.Random, victim: Victim, size: int = 1) -> int:
    """Anywhere, or in every second case in the structure, where there is one."""
    last = max(0, len(victim.content) - size)
    if victim.structure and draw.random() < 0.5:
        start, end = draw.choice(victim.structure)
        return min(last, draw.randrange(start, end))
    return draw.randint(0, last)


def flipped(draw: random.Random, victim: Victim) -> bytes:
    content = bytearray(victim.content)
    for _ in range(draw.randint(1, 64)):
        content[_place(draw, victim)] ^= 1 << draw.randrange(8)
    return bytes(content)


def overwritten(draw: random.Random, victim: Victim) -> bytes:
    size = min(len(victim.content), 2 ** draw.randint(0, 12))
    block = draw.choice([bytes(size), b"\xff" * size, draw.randbytes(size)])
    return replaced(victim.content, _place(draw, victim, size), block)


def replaced(content: bytes, place: int, block: bytes) -> bytes:
    return content[:place] + block + content[place + len(block) :]


def cut(draw: random.Random, victim: Victim) -> bytes:
    return victim.content[: _place(draw, victim)]


def extended(draw: random.Random, victim: Victim) -> bytes:
    size = 2 ** draw.randint(0, 16)
    return victim.content + draw.choice([bytes(size), draw.randbytes(size), victim.content])


def moved(draw: random.Random, victim: Victim) -> bytes:
    """Two blocks swapped, or one of them copied over the other, or put in once more."""
    content = victim.content
    size = min(len(content) // 2, 2 ** draw.randint(2, 12))
    one, two = (_place(draw, victim, size) for _ in range(2))
    first, second = content[one : one + size], content[two : two + size]
    if draw.random() < 0.3:
        return content[:two] + first + content[two:]
    copied = replaced(content, two, first)
    return copied if draw.random() < 0.5 else replaced(copied, one, second)


def spliced(draw: random.Random, victim: Victim) -> bytes:
    """A stretch, or all that follows, from another valid file."""
    place = _place(draw, victim)
    end = place + 2 ** draw.randint(4, 14) if draw.random() < 0.7 else len(victim.other)
    return replaced(victim.content, place, victim.other[place:end])


def integers(draw: random.Random, victim: Victim) -> bytes:
    content = victim.content
    for _ in range(draw.randint(1, 8)):
        size = draw.choice([4, 8])
        place = _place(draw, victim, size) // size * size
        number = draw.choice(EXTREMES) % 2 ** (8 * size)
        content = replaced(content, place, number.to_bytes(size, draw.choice(["little", "big"])))
    return content


ANY: tuple[Damage, ...] = (flipped, overwritten, cut, extended, moved, spliced, integers)
