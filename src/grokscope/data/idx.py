"""IDX files, the format of MNIST: magic number, dimensions, big-endian values; plain or gzip.

A data folder may hold anything, so nothing in a file is believed before it is checked: what
is read never exceeds what the header announces, and what the header may announce is bounded.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**28
"""Values a header may announce by default: 256 MiB, five times MNIST's training images."""

_MAX_DIMENSIONS = 8
_CHUNK = 2**20
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> NDArray:
    """Read one IDX file, plain or gzip (told apart by content, not by name).

    Layout: two zero bytes, a byte for the type, a byte for the number of dimensions, one
    big-endian uint32 a dimension, then the values, last dimension fastest, and nothing more.

    Args:
        path: The file.
        max_bytes: Largest size of the values that a header may announce. Memory stays within
            twice that, however far a gzip file would expand.

    Returns:
        A writable array of the announced shape, in the machine's byte order.

    Raises:
        ValueError: If the file is truncated, has trailing bytes, is no IDX file, is damaged
            gzip, no regular file, or announces an empty array or more than ``max_bytes``. One
            line, with the path.
        OSError: If the file cannot be opened or read.

    Source:
        The description on Yann LeCun's MNIST page (``yann.lecun.com/exdb/mnist``).
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("is not a regular file.")
        with path.open("rb") as raw:
            if raw.read(2) != b"\x1f\x8b":
                raw.seek(0)
                return _parse(raw, max_bytes)
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _parse(unpacked, max_bytes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: its gzip stream fails with {error}.") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def read_labelled_images(
    image_path: Path, label_path: Path, *, n_classes: int = 10
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 28, 28) and classes (n,) of MNIST and its kin, checked against each other.

    Raises:
        ValueError: If a file holds something else, naming it.
    """
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{image_path} must hold 28 x 28 images of bytes, "
            f"got {images.dtype} of shape {images.shape}."
        )
    right = labels.dtype == np.uint8 and labels.shape == images.shape[:1]
    if not right or labels.max() >= n_classes:
        raise ValueError(
            f"{label_path} must hold {len(images)} classes below {n_classes} as bytes, one an "
            f"image of {image_path.name}, got {labels.dtype} of shape {labels.shape}, "
            f"largest {labels.max()}."
        )
    return images, labels


def _parse(file: io.BufferedIOBase, max_bytes: int) -> NDArray:
    """Read header and values; every error message continues a sentence begun by the path."""
    magic = _read_up_to(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(f"is no IDX file: it starts with bytes {magic.hex(' ') or 'none'}.")
    dtype, n_dimensions = np.dtype(_DTYPES[magic[2]]), magic[3]
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(
            f"announces {n_dimensions} dimensions; an IDX file has 1 to {_MAX_DIMENSIONS} here."
        )
    header = _read_up_to(file, 4 * n_dimensions)
    if len(header) < 4 * n_dimensions:
        raise ValueError(f"is truncated: its header ends after {4 + len(header)} bytes.")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    size = math.prod(shape) * dtype.itemsize
    if not 0 < size <= max_bytes:
        raise ValueError(
            f"announces shape {shape}, {size} bytes of values; 1 to {max_bytes} are accepted."
        )
    payload = _read_up_to(file, size)
    if len(payload) < size:
        raise ValueError(
            f"is truncated: shape {shape} needs {size} bytes of values, {len(payload)} came."
        )
    if file.read(1):
        raise ValueError(f"is too long: bytes follow the {size} that shape {shape} announces.")
    return np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_up_to(file: io.BufferedIOBase, size: int) -> bytearray:
    """Read ``size`` bytes or to the end; memory follows what comes, not what was announced."""
    content = bytearray()
    while len(content) < size and (chunk := file.read(min(_CHUNK, size - len(content)))):
        content += chunk
    return content
