"""Checkpoints of a stranger: nothing runs, nothing hangs, one line says why."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from grokscope.app.checkpoints import TornCheckpointError, read_checkpoint
from grokscope.app.pickles import check_pickle

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}
LOOPS = {"fit_loop": {"epoch_progress": {"current": {"processed": 3}}}}
CONTENT = {"epoch": 2, "global_step": 3, "loops": LOOPS, "optimizer_states": []}
SAME = b"K\x01\x85q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))

ENCODED = b"\x80\x02c_codecs\nencode\nX\x02\0\0\0abX\x08\0\0\0punycode\x86R."


class Call:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def save(path: Path, **more: Any) -> Path:
    torch.save({"state_dict": WEIGHTS, **CONTENT, **more}, path)
    return path


def with_pickle(path: Path, data: bytes, *extra: str) -> Path:
    """A whole archive with another pickle, its checksum right."""
    save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, data if name.endswith("data.pkl") else part)
        for name in extra:
            archive.writestr(name, data)
    return path


def pickled(content: Any) -> bytes:
    return pickle.dumps(content, protocol=2)


def test_what_torch_saves_is_read(tmp_path):
    more = {
        "betas": [(0.9, 0.999)] * 50,
        "rng": {"torch": torch.get_rng_state(), "seed": -(2**70), "bytes": b"abc"},
        "types": (torch.float64, torch.device("cpu"), torch.Size([1]), {1, 2}, None, True, 1.5),
        "half": torch.zeros(3, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.zeros(2)),
    }
    content = read_checkpoint(save(tmp_path / "x.ckpt", **more))
    assert torch.equal(content["state_dict"]["w"], WEIGHTS["w"])
    assert content["betas"] == more["betas"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pickled(Call()), "it names posix.mkdir"),
        (b"\x80\x02}" + SAME + b"K\x01s.", "repeat each other without end"),
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R.", "names builtins.bytearray"),
        (ENCODED, "bytes in another form than latin1"),
        (b"\x80\x02(((.", "not one"),
        (b"\x80\x02a.", "its entries are damaged"),
        (b"\x80\x02h\x05.", "its entries are damaged"),
        (pickle.dumps({}, protocol=4), "the pickle operation MEMOIZE"),
        (b"", "ends|exhausted|damaged"),
        (b"\x80\x02]q\x00h\x00a.", "no .* in it"),
    ],
)
def test_a_pickle_that_torch_does_not_write_is_refused(tmp_path, monkeypatch, data, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TornCheckpointError, match=rf"x\.ckpt: .*({why})"):
        read_checkpoint(with_pickle(tmp_path / "x.ckpt", data))
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["archive/DATA.PKL", "x/DATA.pkl"])
def test_a_second_pickle_is_looked_through_or_refused(tmp_path, name):
    good = save(tmp_path / "x.ckpt")
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr(name, pickled(Call()))
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives|posix\.mkdir"):
        read_checkpoint(good)


@pytest.mark.refusal
def test_something_before_the_archive_is_refused(tmp_path):
    path = save(tmp_path / "x.ckpt")
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives"):
        read_checkpoint(path)


@pytest.mark.refusal
def test_an_empty_archive_is_refused(tmp_path):
    zipfile.ZipFile(tmp_path / "x.ckpt", "w").close()
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.refusal
def test_an_archive_of_several_disks_is_refused(tmp_path):
    path = save(tmp_path / "x.ckpt")
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    locator = b"PK\6\7" + bytes(12) + (2).to_bytes(4, "little")
    path.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives"):
        read_checkpoint(path)


@pytest.mark.refusal
@pytest.mark.parametrize("passes", [-1, 2**70, True, "3", torch.zeros(1)])
def test_a_number_of_passes_that_is_none_is_refused(tmp_path, passes):
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": passes}}}}
    with pytest.raises(TornCheckpointError, match="not those of a run"):
        read_checkpoint(save(tmp_path / "x.ckpt", loops=loops))


@pytest.mark.refusal
@pytest.mark.parametrize("loops", [torch.zeros(1), [], {"fit_loop": torch.zeros(1)}])
def test_loops_of_another_kind_are_refused(tmp_path, loops):
    with pytest.raises(TornCheckpointError, match="not those of a run"):
        read_checkpoint(save(tmp_path / "x.ckpt", loops=loops))


@pytest.mark.refusal
def test_the_older_format_of_torch_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.ckpt").write_bytes(pickled(Call()))
    with pytest.raises(TornCheckpointError, match=r"torch\.save's archives"):
        read_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.refusal
def test_a_tensor_that_repeats_a_few_bytes_without_end_is_refused(tmp_path):
    path = save(tmp_path / "x.ckpt", optimizer_states=[{"s": torch.zeros(1).expand(2**50)}])
    with pytest.raises(TornCheckpointError, match="claims more bytes than it has"):
        read_checkpoint(path)


def test_looking_through_a_large_pickle_takes_little_time():
    raw = io.BytesIO()
    torch.save({f"w{i}": torch.zeros(1) for i in range(2000)}, raw)
    with zipfile.ZipFile(raw) as archive:
        data = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    begun = time.process_time()
    check_pickle(data)
    assert time.process_time() - begun < 5


COLLIDING = [n * (2**61 - 1) for n in range(1, 2000)]  # one hash: Python takes it modulo that


@pytest.mark.parametrize(
    "content",
    [
        dict.fromkeys(COLLIDING),
        set(COLLIDING),
        {"deep": [{2**63: 1}]},
        {(1, 2): 3},
        {1.5: 2},
        {(): 1},
        {"set": {(1, 2)}},
    ],
    ids=["long", "set", "one", "tuple", "float", "empty tuple", "tuples in a set"],
)
def test_keys_whose_hashes_can_be_made_equal_are_refused(tmp_path, content):
    path = with_pickle(tmp_path / "x.ckpt", pickled(content))
    begun = time.perf_counter()
    with pytest.raises(TornCheckpointError, match="keys other than text and numbers of 64 bits"):
        read_checkpoint(path)
    assert time.perf_counter() - begun < 5


def test_a_list_that_grows_after_it_was_wrapped_is_no_way_around():
    wrapped, grown = b"K\x01]q\x00\x85q\x01s", b"K\x02h\x00K\x05K\x06\x86as"
    data = b"\x80\x02}" + wrapped + grown + b"K\x03cbuiltins\nset\nh\x01Rs."
    assert pickle.loads(data)[3] == {(5, 6)}
    with pytest.raises(ValueError, match="keys other than"):
        check_pickle(data)


def test_keys_of_real_checkpoints_are_read():
    kept = {0: {"exp_avg": 1.5}, -(2**40): None, "a": {1, 2, "x"}, True: {}, None: [2**127]}
    check_pickle(pickled(kept))


def test_what_a_checkpoint_names_is_told_shortly(tmp_path):
    path = with_pickle(tmp_path / "x.ckpt", b"\x80\x02c" + b"o" * 3_000_000 + b"\nsystem\n.")
    with pytest.raises(TornCheckpointError) as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert len(caught.value.why) < 600


def test_a_tuple_in_a_tuple_without_end_is_no_key(tmp_path):
    data = b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."
    with pytest.raises(TornCheckpointError, match="keys other than"):
        read_checkpoint(with_pickle(tmp_path / "x.ckpt", data))
