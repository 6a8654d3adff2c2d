"""How a file of each kind is damaged."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

from damage_bytes import ANY, EXTREMES, Damage, Victim, replaced
from damage_checkpoint import archived, entries, inner, opcodes, payload
from damage_hdf5 import rebuilt, sealed
from damage_text import text

__all__ = ["Victim", "ways"]


def header(draw: random.Random, victim: Victim) -> bytes:
    """Type, dimensions and sizes, plain or packed; or far more values than announced."""
    packed = victim.content.startswith(b"\x1f\x8b")
    content = gzip.decompress(victim.content) if packed else victim.content
    way = draw.randrange(4)
    if way == 0:
        content = replaced(content, 2, draw.randbytes(2))
    elif way == 1:
        place = 4 + 4 * draw.randrange(3)
        content = replaced(content, place, (draw.choice(EXTREMES) % 2**32).to_bytes(4, "big"))
    elif way == 2:
        content = struct.pack(">2xBB2I", 8, 2, 2 ** draw.choice([5, 10, 15]), 2**15) + bytes(2**26)
        packed = True
    else:
        content = content[:4] + draw.randbytes(12) + content[16:]
    return gzip.compress(content, 1) if packed else content


def ways(kind: str) -> tuple[Damage, ...]:
    """What is done to a file; those of its kind as often as those of any bytes."""
    own: tuple[Damage, ...] = {
        ".h5": (sealed, rebuilt),
        ".ckpt": (inner, payload, entries, opcodes, archived),
        ".yaml": (text,),
        ".json": (text,),
    }.get(Path(kind).suffix, (header,))
    return ANY + own * max(1, 7 // len(own))
