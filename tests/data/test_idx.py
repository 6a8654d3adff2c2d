"""Reading IDX files: round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from grokscope.data.idx import read_idx

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(f">2xBB{array.ndim}I", CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file-idx"
    path.write_bytes(content)
    return path


ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
HEADER_ONLY = struct.pack(">2xBB3I", 8, 3, 600, 600, 600)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
def test_every_type_comes_back_in_native_byte_order(tmp_path, dtype, shape):
    array = (np.arange(np.prod(shape)) * 5 - 3).astype(dtype).reshape(shape)
    read = read_idx(write(tmp_path, encode(array)))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.flags.writeable


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    plain = read_idx(write(tmp_path, encode(ARRAY)))
    packed = read_idx(write(tmp_path, gzip.compress(encode(ARRAY))))
    np.testing.assert_array_equal(plain, packed)


def test_path_may_be_a_string(tmp_path):
    np.testing.assert_array_equal(read_idx(str(write(tmp_path, encode(ARRAY)))), ARRAY)


def test_missing_file_is_the_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")


@pytest.mark.refusal
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "file-idx")
    with pytest.raises(ValueError, match="file-idx is not a regular file"):
        read_idx(tmp_path / "file-idx")


WRONG = {
    "an empty file": (b"", "is no IDX file"),
    "a header of three bytes": (b"\0\0\x08", "is no IDX file"),
    "a web page": (b"<!DOCTYPE html><html>", "is no IDX file"),
    "zeros": (bytes(64), "is no IDX file"),
    "an unknown type": (b"\0\0\x0a\x01" + bytes(8), "is no IDX file"),
    "no dimensions": (b"\0\0\x08\0" + bytes(8), "announces 0 dimensions"),
    "255 dimensions": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0", "announces 255 dimensions"),
    "a cut header": (encode(ARRAY)[:10], "is truncated: its header"),
    "a zero dimension": (struct.pack(">2xBB2I", 8, 2, 0, 2**32 - 1), "announces shape"),
    "cut values": (encode(ARRAY)[:-1], "is truncated: shape .* needs 24 bytes of values, 23 came"),
    "one byte too many": (encode(ARRAY) + b"\0", "is too long"),
    "huge dimensions": (struct.pack(">2xBB3I", 14, 3, *[2**32 - 1] * 3), "announces shape"),
    "a size that wraps to zero": (struct.pack(">2xBB4I", 8, 4, *[2**16] * 4), "announces shape"),
    "big announced, little there": (HEADER_ONLY + b"\1", "is truncated"),
}


@pytest.mark.refusal
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_gives_one_line_with_its_name(tmp_path, kind, packed):
    content, match = WRONG[kind]
    path = write(tmp_path, gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=match) as caught:
        read_idx(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert caught.value.__cause__ is None


@pytest.mark.refusal
@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum", "trailer"])
def test_damaged_gzip_names_the_file(tmp_path, damage):
    content = bytearray(gzip.compress(encode(ARRAY)))
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[10:14] = b"\xff\xff\xff\xff"
    elif damage == "checksum":
        content[-8] ^= 1
    else:
        content += b"rubbish"
    with pytest.raises(ValueError, match="file-idx is damaged: its gzip stream"):
        read_idx(write(tmp_path, bytes(content)))


@pytest.mark.refusal
def test_the_limit_is_on_what_the_header_announces(tmp_path):
    path = write(tmp_path, encode(ARRAY))
    assert read_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="24 bytes of values; 1 to 23 are accepted"):
        read_idx(path, max_bytes=23)


@pytest.mark.refusal
@pytest.mark.parametrize("content", [encode(ARRAY) + bytes(30_000_000), HEADER_ONLY])
def test_neither_a_gzip_bomb_nor_a_boasting_header_takes_memory(tmp_path, content):
    path = write(tmp_path, gzip.compress(content, 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"is too long|is truncated"):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
