"""Checkpoints that say one thing to one reader and another to the next."""

from __future__ import annotations

import io
import os
import resource
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grokscope.app import archives
from grokscope.app.checkpoint_io import CheckedCheckpoints
from grokscope.app.checkpoints import TornCheckpointError, read_checkpoint
from grokscope.store import memory

LOOPS = {"fit_loop": {"epoch_progress": {"current": {"processed": 3}}}}
REST = {"epoch": 2, "global_step": 3, "loops": LOOPS, "optimizer_states": []}
GOOD, EVIL = 1.0, 666.0
ENTRY = struct.Struct("<4s6H3L5H2L")  # of a central directory
END64 = struct.Struct("<4sQ2H2L4Q")
END = struct.Struct("<4s4H2LH")


def saved(value: float, size: int = 3, count: int = 1) -> bytes:
    file = io.BytesIO()
    state = {"wx"[i]: torch.full((size,), value) for i in range(count)}
    torch.save({"state_dict": state, **REST}, file)
    return file.getvalue()


def parts(archive: bytes) -> tuple[bytes, bytes, int]:
    """Members, directory, and the number of its entries."""
    *_, count, length, offset, _ = END.unpack(archive[-22:])
    return archive[:offset], archive[offset : offset + length], count


def moved(directory: bytes, by: int) -> bytes:
    """A directory of members that lie further back."""
    found, place = b"", 0
    while place < len(directory):
        fields = list(ENTRY.unpack_from(directory, place))
        rest = directory[place + ENTRY.size :][: sum(fields[10:13])]
        fields[-1] += by
        found += ENTRY.pack(*fields) + rest
        place += ENTRY.size + len(rest)
    return found


def end64(directory: bytes, count: int, offset: int) -> bytes:
    return END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), offset)


def locator(offset: int) -> bytes:
    return struct.pack("<4sLQL", b"PK\6\7", 0, offset, 1)


def two_directories(first: float, second: float) -> bytes:
    """Python's zipfile reads the end before the locator; others follow the locator."""
    (a, cd_a, n), (b, cd_b, _) = parts(saved(first)), parts(saved(second))
    cd_b = moved(cd_b, len(a))
    other = len(a + b + cd_b)
    content = a + b + cd_b + end64(cd_b, n, len(a + b))
    start = len(content)
    content += cd_a + end64(cd_a, n, start) + locator(other)
    return content + END.pack(b"PK\5\6", 0, 0, n, n, len(cd_a), start, 0)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def rewritten(change: Callable[[zipfile.ZipInfo], None], *more: tuple[str, bytes]) -> bytes:
    """An archive whose members are changed, and with further ones."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(GOOD))) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            member = zipfile.ZipInfo(info.filename)
            change(member)
            new.writestr(member, old.read(info.filename))
        for name, data in more:
            new.writestr(name, data)
    return file.getvalue()


def named(old: str, new: str) -> bytes:
    def change(member: zipfile.ZipInfo) -> None:
        member.filename = member.filename.replace(old, new)

    return rewritten(change)


def _compressed(member: zipfile.ZipInfo) -> None:
    member.compress_type = zipfile.ZIP_DEFLATED


def _link(member: zipfile.ZipInfo) -> None:
    member.external_attr = 0o120777 << 16


def nothing(member: zipfile.ZipInfo) -> None:
    pass


def in_directory(field: int, value: int) -> bytes:
    """The first entry of the directory with another value."""
    content = saved(GOOD)
    members, directory, _ = parts(content)
    fields = list(ENTRY.unpack_from(directory))
    fields[field] = value
    place = len(members)
    return content[:place] + ENTRY.pack(*fields) + content[place + ENTRY.size :]


def in_end(field: int, value: int, form: struct.Struct = END, back: int = 22) -> bytes:
    content = saved(GOOD)
    fields = list(form.unpack_from(content, len(content) - back))
    fields[field] = value
    begin = len(content) - back
    return content[:begin] + form.pack(*fields) + content[begin + form.size :]


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def legacy() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {}, **REST}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


TENSORS = b"\x02\0\0\0\0\0\0\0{}"  # an empty file of safetensors
HOSTILE: dict[str, Callable[[], bytes]] = {
    "something before": lambda: b"#!/bin/sh\n" + saved(GOOD),
    "another archive before": lambda: saved(EVIL) + saved(GOOD),
    "something after": lambda: saved(GOOD) + b"\0",
    "an end after": lambda: saved(GOOD) + END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0),
    "a comment": lambda: saved(GOOD)[:-2] + b"\2\0ab",
    "an end in the comment": lambda: saved(GOOD)[:-2] + b"\x16\0" + saved(EVIL)[-22:],
    "a comment that is not there": lambda: saved(GOOD)[:-2] + b"\2\0",
    "a large directory": lambda: in_end(5, 2**31),
    "a large directory of ZIP64": lambda: in_end(8, 2**62, END64, 22 + 20 + 56),
    "a directory before the file": lambda: in_end(9, 2**62, END64, 22 + 20 + 56),
    "no end of ZIP64": lambda: in_end(0, b"PK\0\0", END64, 22 + 20 + 56),
    "several disks": lambda: saved(GOOD)[:-26] + b"\2\0\0\0" + saved(GOOD)[-22:],
    "a member twice": lambda: saved(GOOD, 3, 2).replace(b"data/1", b"data/0"),
    "a member in capitals": lambda: rewritten(nothing, ("archive/DATA/0", bytes(12))),
    "two archives": lambda: rewritten(nothing, ("other/data/0", bytes(12))),
    "two pickles": lambda: rewritten(nothing, ("other/data.pkl", b"\x80\2}.")),
    "code": lambda: rewritten(nothing, ("archive/code/__torch__.py", b"x")),
    "constants": lambda: rewritten(nothing, ("archive/constants.pkl", b"\x80\2}.")),
    "a folder": lambda: rewritten(nothing, ("archive/data/", b"")),
    "no pickle": lambda: named("data.pkl", "data/9"),
    "a pickle in capitals": lambda: named("data.pkl", "DATA.PKL"),
    "an absolute name": lambda: named("archive/", "/archive/"),
    "a name upwards": lambda: named("archive/", "../archive/"),
    "upwards inside": lambda: named("archive/data/0", "archive/data/../data/0"),
    "a backslash": lambda: named("archive/", "archive\\"),
    "a digit of another script": lambda: named("data/0", "data/\u0660"),
    "no folder": lambda: named("archive/", ""),
    "compressed": lambda: rewritten(_compressed),
    "a link": lambda: rewritten(_link),
    "encrypted": lambda: in_directory(3, 0x801),
    "strongly encrypted": lambda: in_directory(3, 0x840),
    "patched": lambda: in_directory(3, 0x820),
    "another checksum": lambda: in_directory(7, 1),
    "two sizes": lambda: in_directory(8, 1),
    "beyond the file": lambda: in_directory(9, 2**31),
    "sizes of ZIP64": lambda: in_directory(9, 2**32 - 1),
    "from elsewhere": lambda: in_directory(16, 10),
    "from beyond": lambda: in_directory(16, 2**31),
    "a later version": lambda: in_directory(2, 99),
    "another name before the member": lambda: saved(GOOD).replace(b"archive", b"Archive", 1),
    "an order of bytes": lambda: saved(GOOD).replace(b"little", b"middle"),
    "no number of a version": lambda: rewritten(nothing, ("archive/version2", b"x" * 9)),
    "a long note": lambda: rewritten(nothing, ("archive/.data/serialization_id2", b"1")),
    "empty": lambda: b"",
    "an end alone": lambda: END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0),
    "half": lambda: saved(GOOD)[:500],
    "a tar file": tar,
    "the older format": legacy,
    "safetensors": lambda: TENSORS,
    "a text": lambda: b"state_dict",
}


@pytest.mark.refusal
@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused(tmp_path, kind):
    path = written(tmp_path / "x.ckpt", HOSTILE[kind]())
    begun = time.process_time()
    with pytest.raises(TornCheckpointError, match=r"x\.ckpt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert time.process_time() - begun < 2


@pytest.mark.refusal
def test_two_directories_are_refused(tmp_path):
    path = written(tmp_path / "x.ckpt", two_directories(GOOD, EVIL))
    assert torch.load(path, weights_only=True)["state_dict"]["w"][0] == EVIL  # unlike zipfile
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives"):
        read_checkpoint(path)


@pytest.mark.parametrize("values", [(GOOD, EVIL), (EVIL, GOOD)])
def test_of_two_directories_the_one_that_was_checked_would_be_loaded(
    tmp_path, monkeypatch, values
):
    monkeypatch.setattr(archives, "_check_directory", lambda file, size: None)
    path = written(tmp_path / "x.ckpt", two_directories(*values))
    assert read_checkpoint(path)["state_dict"]["w"].tolist() == [values[0]] * 3


def test_what_is_saved_is_read_as_it_is(tmp_path):
    content: dict[str, Any] = read_checkpoint(written(tmp_path / "x.ckpt", saved(GOOD, 10**6)))
    assert torch.equal(content["state_dict"]["w"], torch.ones(10**6))
    again = CheckedCheckpoints().load_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert torch.equal(again["state_dict"]["w"], content["state_dict"]["w"])


@pytest.mark.refusal
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device", "none"])
def test_only_a_regular_file_is_opened(tmp_path, kind):
    path = tmp_path / "x.ckpt"
    written(tmp_path / "other", saved(GOOD))
    make: dict[str, Callable[[], Any]] = {
        "link": lambda: path.symlink_to(tmp_path / "other"),
        "dangling link": lambda: path.symlink_to(tmp_path / "none"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "none": lambda: None,
    }
    make[kind]()
    with pytest.raises(TornCheckpointError, match=r"x\.ckpt: it (cannot be read|is not)"):
        read_checkpoint(path)


@pytest.mark.refusal
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null", "/dev/tty"])
def test_a_device_is_not_read(device):
    with pytest.raises(TornCheckpointError, match=r": it (is not|cannot)"):
        read_checkpoint(Path(device))


def test_the_copy_takes_twice_the_file_at_most(tmp_path):
    path = written(tmp_path / "x.ckpt", saved(GOOD, 25_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_checkpoint(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 2.5 * path.stat().st_size


def test_what_does_not_fit_into_memory_is_not_copied(tmp_path, monkeypatch):
    path = written(tmp_path / "x.ckpt", saved(GOOD, 2_000_000))
    monkeypatch.setattr(memory, "LITTLE", 2**20)
    monkeypatch.setattr(memory, "free_memory", lambda: 2**22)
    with pytest.raises(TornCheckpointError, match=r"takes [\d,]+ bytes of memory, and 4,194,304"):
        read_checkpoint(path)
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    read_checkpoint(path)
