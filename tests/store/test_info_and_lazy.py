"""``run.json`` and the lazy matrix."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from grokscope.store import LazyGOP, info

FACTOR = np.random.default_rng(0).normal(size=(3, 7))


def test_entries_are_merged_and_the_file_is_replaced_whole(tmp_path, monkeypatch):
    info.update_info(tmp_path / "run", status="running", seed=3)
    inode = (tmp_path / "run" / info.NAME).stat().st_ino
    opened = (tmp_path / "run" / info.NAME).open()
    info.update_info(tmp_path / "run", status="finished")
    assert info.read_info(tmp_path / "run") == {"status": "finished", "seed": 3}
    assert json.load(opened) == {"status": "running", "seed": 3}
    opened.close()
    assert (tmp_path / "run" / info.NAME).stat().st_ino != inode


def test_a_failed_update_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    info.update_info(tmp_path, status="running")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        info.update_info(tmp_path, status="finished")
    assert info.read_info(tmp_path) == {"status": "running"}
    assert os.listdir(tmp_path) == [info.NAME]


def test_a_kill_on_a_full_disk_leaves_json(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def killed(*_):
        raise KeyboardInterrupt

    info.update_info(tmp_path, status="running", note="x" * 100)
    monkeypatch.setattr(info, "replace_bytes", full)
    monkeypatch.setattr(info, "to_disk", killed)
    monkeypatch.setattr(info, "open", Untruncated, raising=False)
    with pytest.raises(KeyboardInterrupt):
        info.update_info(tmp_path, status="failed", note="")
    monkeypatch.undo()
    assert info.read_info(tmp_path) == {"status": "failed", "note": ""}


class Untruncated:
    """A file whose process is killed before it is cut."""

    def __init__(self, *arguments, **settings):
        self._file = open(*arguments, **settings)  # noqa: SIM115 - closed below

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def truncate(self, size):
        raise KeyboardInterrupt


def test_a_folder_without_the_file_has_no_entries(tmp_path):
    assert info.read_info(tmp_path) == {}


@pytest.mark.refusal
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[" * 100_000])
def test_invalid_json_is_refused(tmp_path, content):
    (tmp_path / info.NAME).write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        info.read_info(tmp_path)
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        info.update_info(tmp_path, status="running")
    assert (tmp_path / info.NAME).read_bytes() == content


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"wall_seconds": ' + b"9" * 400 + b"}", "a number of 400 digits"),
        (b" " * (info.MAX_BYTES + 1), "more than 4,194,304 bytes"),
    ],
)
def test_json_without_end_is_refused(tmp_path, content, why):
    (tmp_path / info.NAME).write_bytes(content)
    with pytest.raises(ValueError, match=rf"run\.json is not valid JSON: .*{why}"):
        info.read_info(tmp_path)


@pytest.mark.refusal
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / info.NAME)
    with pytest.raises(ValueError, match=r"run\.json must be a regular file, got a FIFO"):
        info.read_info(tmp_path)


@pytest.mark.refusal
def test_json_of_another_kind_is_refused(tmp_path):
    (tmp_path / info.NAME).write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        info.read_info(tmp_path)


def test_the_environment_names_versions_and_process():
    found = info.environment()
    assert found["pid"] == os.getpid()
    assert {"h5py", "numpy", "python"} <= set(found["versions"])
    json.dumps(found)


BLOCKS = [
    (2, 5),
    (-1, 0),
    (slice(None), 3),
    (slice(1, 4), slice(None, None, 2)),
    (slice(4, 4), slice(None)),
    ([0, 6, 6], [1]),
    (np.array([5, 2]), slice(0, 3)),
    (np.arange(7) > 4, 2),
    (np.array([[0, 1], [2, 3]]), np.array([4])),
]


@pytest.mark.parametrize("key", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_equals_that_of_the_dense_matrix(key):
    dense = FACTOR.T @ FACTOR
    rows, columns = key
    np.testing.assert_allclose(LazyGOP(FACTOR)[key], dense[rows][..., columns], rtol=1e-13)


def test_an_entry_is_a_number():
    assert isinstance(LazyGOP(FACTOR)[1, 2], float)


def test_the_dense_matrix_and_products_agree():
    gop = LazyGOP(FACTOR.astype("f4"))
    dense = gop.dense()
    assert gop.shape == dense.shape == (7, 7)
    assert dense.dtype == np.float64
    vectors = np.random.default_rng(1).normal(size=(7, 2))
    np.testing.assert_allclose(gop @ vectors, dense @ vectors, rtol=1e-12)
    np.testing.assert_allclose(gop @ vectors[:, 0], dense @ vectors[:, 0], rtol=1e-12)


def test_one_gradient_is_a_matrix_of_rank_one():
    assert LazyGOP(FACTOR[0]).shape == (7, 7)
    assert "rank<=1" in repr(LazyGOP(FACTOR[0]))


def test_a_huge_matrix_costs_nothing_until_it_is_asked_for():
    gop = LazyGOP(np.ones(10**6))
    assert gop[999_999, 0] == 1
    assert gop[5, :].shape == (10**6,)


@pytest.mark.refusal
def test_more_than_max_bytes_is_refused():
    with pytest.raises(ValueError, match=r"max_bytes must be >= 392 for this matrix, got 391"):
        LazyGOP(FACTOR).dense(max_bytes=391)
    LazyGOP(FACTOR).dense(max_bytes=392)
    with pytest.raises(ValueError, match="for this matrix"):
        LazyGOP(np.ones(10**5)).dense()
    with pytest.raises(ValueError, match="for this block"):
        LazyGOP(np.ones(10**5))[:, :]


@pytest.mark.refusal
@pytest.mark.parametrize("key", [0, (0, 0, 0), slice(None)])
def test_another_number_of_indices_is_refused(key):
    with pytest.raises(IndexError, match="two indices"):
        LazyGOP(FACTOR)[key]


@pytest.mark.refusal
def test_an_index_out_of_range_is_refused():
    with pytest.raises(IndexError):
        LazyGOP(FACTOR)[7, 0]
