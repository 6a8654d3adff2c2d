"""Ways to damage an HDF5 file that take more than bytes."""

from __future__ import annotations

import io
import json
import random
import zlib
from contextlib import suppress
from functools import cache
from typing import Any

import h5py
import numpy as np
from damage_bytes import EXTREMES, Victim, checksum


def sealed(draw: random.Random, victim: Victim) -> bytes:
    """Structure changed and its checksum put right, as only a hostile hand does."""
    content = bytearray(victim.content)
    for _ in range(draw.choice([1, 1, 1, 3])):
        start, end = draw.choice(victim.structure)
        for _ in range(draw.choice([1, 1, 2, 4])):
            size = draw.choice([1, 1, 2, 4, 8])
            place = draw.randrange(start + 4, max(start + 5, end - size))
            number = draw.choice([*EXTREMES, draw.getrandbits(64), draw.randrange(256)])
            content[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
        content[end : end + 4] = checksum(bytes(content[start:end])).to_bytes(4, "little")
    return bytes(content)


NOT_THERE = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


def rebuilt(draw: random.Random, victim: Victim) -> bytes:
    """A whole HDF5 file by the library's own hand, with content that no run has."""
    raw = io.BytesIO(victim.content)
    with h5py.File(raw, "r+", libver=draw.choice(["v108", "latest", "earliest"])) as file:
        datasets: list[str] = []
        file.visititems(lambda name, node: datasets.append(name) if _plain(node) else None)
        for _ in range(draw.randint(1, 3)):
            with suppress(*NOT_THERE):  # on top of what was done before
                draw.choice(FOREIGN)(draw, file, draw.choice(datasets))
            datasets = [name for name in datasets if name in file] or ["none"]
    return raw.getvalue()


def _plain(node: Any) -> bool:
    return isinstance(node, h5py.Dataset) and not node.is_virtual


def _other_type(draw: random.Random, file: h5py.File, name: str) -> None:
    kinds: list[Any] = ["i1", "u8", "f2", "c16", "S9", "?", ">f8", "g", [("a", "f8"), ("b", "i4")]]
    kinds += [h5py.string_dtype(), h5py.vlen_dtype("f8"), h5py.ref_dtype, np.dtype("V16")]
    shape = file[name].shape
    del file[name]
    kind = draw.choice(kinds)
    file.create_dataset(name, shape, kind)


def _other_shape(draw: random.Random, file: h5py.File, name: str) -> None:
    shape, kind = file[name].shape, file[name].dtype
    shapes = [(), (0,), (*shape, 3), shape[::-1], (*shape, 1, 1), (2**20, 4), (2**40, 2**20)]
    del file[name]
    file.create_dataset(name, draw.choice(shapes), kind)


def _other_values(draw: random.Random, file: h5py.File, name: str) -> None:
    values = file[name]
    info = np.iinfo(values.dtype) if values.dtype.kind in "iu" else np.finfo(values.dtype)
    if values.size:
        values[...] = draw.choice([info.max, info.min, 0, 7])


def _linked(draw: random.Random, file: h5py.File, name: str) -> None:
    """A link to itself, to its group, to nothing, to another file or to a device."""
    del file[name]
    path = draw.choice(["/dev/zero", "/dev/tty", "/etc/passwd", "metrics.h5", "gop_layers.h5"])
    file[name] = draw.choice(
        [h5py.SoftLink(name), h5py.SoftLink("."), file["/"], h5py.ExternalLink(path, "epoch")]
    )


def _outside(draw: random.Random, file: h5py.File, name: str) -> None:
    """Values of another file."""
    rows = (file[name].shape or (1,))[0]
    del file[name]
    if draw.random() < 0.5:
        size = 8 * max(1, rows)
        file.create_dataset(name, (rows,), "f8", external=[("/etc/passwd", 0, size)])
        return
    layout = h5py.VirtualLayout((rows,), "f8")
    layout[:] = h5py.VirtualSource(draw.choice([".", "gop_full.h5"]), name, (rows,))
    file.create_virtual_dataset(name, layout)


def _filtered(draw: random.Random, file: h5py.File, name: str) -> None:
    """Chunks of any size, through filters that a run's files do not use."""
    values = file[name][()]
    if values.ndim == 0 or not values.size:
        return
    del file[name]
    filters: list[dict[str, Any]] = [
        {"compression": "lzf"},
        {"fletcher32": True},
        {"scaleoffset": 0 if values.dtype.kind in "iu" else 4},
        {"compression": "gzip", "shuffle": True},
        {},
    ]
    chunks = draw.choice([(1,) * values.ndim, values.shape, (2**16, *values.shape[1:])])
    file.create_dataset(
        name,
        data=values,
        chunks=chunks,
        maxshape=(None,) * values.ndim,
        **draw.choice(filters),
    )


def _bomb(draw: random.Random, file: h5py.File, name: str) -> None:
    """Two gigabytes in the place of two megabytes, as rows or as one chunk."""
    rows = (file[name].shape or (1,))[0]
    del file[name]
    chunk: tuple[int, ...]
    shape: tuple[int, ...]
    if draw.random() < 0.5:
        packed, chunk = _zeros(1), (1, 2**20)
        shape, maxshape = (256, 2**20), None
    else:
        packed = _zeros(256)
        chunk, shape, maxshape = (max(1, rows),), (max(1, rows),), (None,)
    data = file.create_dataset(
        name, shape, "f8", chunks=chunk, maxshape=maxshape, compression="gzip"
    )
    for row in range(shape[0] // chunk[0]):
        data.id.write_direct_chunk((row, 0)[: data.ndim], packed)


@cache
def _zeros(times: int) -> bytes:
    """So many times 8 MiB of zeros, packed."""
    packer, zeros = zlib.compressobj(1), bytes(2**23)
    first, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (times - 1) + packer.flush()


def _groups(draw: random.Random, file: h5py.File, name: str) -> None:
    """Tables without end: thousands of them, one in another, or a loop."""
    index = file.require_group("index")
    if draw.random() < 0.4:
        for number in range(2000):
            index[f"t{number}"] = [1]
    elif draw.random() < 0.5:
        node = index
        for _ in range(300):
            node = node.create_group("d")
        node["end"] = [1]
    else:
        index["loop"] = file["/"]


def _texts(draw: random.Random, file: h5py.File, name: str) -> None:
    """Attributes of other kinds."""
    node = draw.choice([file, file[name], file[name].parent])
    names = [*node.attrs] or ["layers"]
    values = ["[" * 30_000, "\x1b[2J", "NaN", "{}", "[[]]", "[1, 2]", -1, 2**62, 1e300, [1, 2]]
    values += [json.dumps(["a"] * 5000), np.zeros(3000), "[{}]", b"\xff\xfe"]
    node.attrs[draw.choice(names)] = draw.choice(values)


def _parameters(draw: random.Random, file: h5py.File, name: str) -> None:
    """Another description of the parameters; only one of the files has any."""
    group = file.get("batch", file)
    slot = {"name": "w", "layer": "w", "offset": 0, "shape": [2, 2]}
    wrong = [-1, 2**62, 1.5, "a", None, [2**40, 2**40], [], [-1, -1], {}, True]
    slot[draw.choice(["layer", "offset", "shape"])] = draw.choice(wrong)
    group.attrs["parameters"] = json.dumps(draw.choice([[slot], [slot] * 2, [], {}]))
    group.attrs["matrices"] = json.dumps({"w": draw.choice([0, 1, -5, "a", None, 2**40])})


FOREIGN = (
    _other_type,
    _other_shape,
    _other_values,
    _linked,
    _outside,
    _filtered,
    _bomb,
    _groups,
    _texts,
    _parameters,
)
