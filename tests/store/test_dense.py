"""Dense matrices in finished files: what they hold, what they take, and a disk without room."""

from __future__ import annotations

import errno
import os
from functools import partial

import h5py
import numpy as np
import pytest

from grokscope.store import RunWriter, TableFile, hdf5_files, layout
from grokscope.store.dense import DenseSizes, eigenvectors, write_matrix
from grokscope.store.factors import Factors
from grokscope.store.layout import Column, Table
from grokscope.store.run_writer import FULL, LAYERS, METRICS
from grokscope.store.writer import StoreFullError

M, BATCHES = 300, 4
INTEGER = Column(dtype="<i8")
CLOCK = {"epoch": INTEGER, "step": INTEGER}
SLOTS = [
    {"name": "in.weight", "layer": "in", "offset": 0, "shape": (8, 25)},
    {"name": "out.weight", "layer": "out", "offset": 200, "shape": (9, 10)},
    {"name": "in.bias", "layer": "in", "offset": 290, "shape": (10,)},
]
NAMES = ["in", "out"]
COLUMNS = {
    "in": np.r_[0:200, 290:300],  # not side by side
    "out": np.r_[200:290],
}
EPOCHS = (0, 5)


def tables(dtype="<f4"):
    metric = {"trace": Column((2,)), "eigenvalues_top_k": Column((2, 4))}
    columns = {"n_batches": INTEGER, "eigenvalues": Column((BATCHES,))}
    columns["gradient"] = Column((BATCHES, M), dtype)
    attributes = {"parameters": SLOTS, "matrices": {"in": 0, "out": 1}}
    return {
        METRICS: [(Table("", {"epoch": INTEGER, "train_loss": Column()}), 8)],
        LAYERS: [(Table(k, CLOCK | metric, {"layers": NAMES}), 8) for k in ("batch", "weight")],
        FULL: [(Table("batch", CLOCK | columns, attributes), 8)],
    }


def gradients(epoch):
    """Three of four mini-batches; two significant eigenvalues at epoch 5."""
    found = np.random.default_rng(epoch).normal(size=(3, M))
    if epoch == 5:
        found[2] = 0.5 * found[1]
    return found.astype("f4").astype("f8")


def write(writer, epochs=EPOCHS, rows=gradients):
    for epoch in epochs:
        clock = {"epoch": epoch, "step": 3 * epoch, "n_batches": 3}
        stored = np.zeros((BATCHES, M))
        stored[:3] = rows(epoch)
        metric = {"trace": np.ones(2), "eigenvalues_top_k": np.ones((2, 4))}
        writer.append(METRICS, "", {"epoch": epoch, "train_loss": 1.0})
        writer.append(LAYERS, "batch", clock | metric)
        if epoch == 0:
            writer.append(LAYERS, "weight", clock | metric)
        factor = {"gradient": stored, "eigenvalues": np.ones(BATCHES)}
        writer.append(FULL, "batch", clock | factor)
    return writer


def make(folder, top_k=10, dtype="<f4", rows=gradients):
    write(RunWriter(folder, tables(dtype), dense_top_k=top_k), rows=rows).finalise()
    return folder


def node(folder, file, path):
    with h5py.File(folder / file) as opened:
        return opened[path][:]


def dense_paths(folder):
    found = []
    for name in (FULL, LAYERS):
        with h5py.File(folder / name) as file:
            file.visit(lambda path: found.append(path) if path.endswith("gop") else None)
    return sorted(found)


@pytest.mark.parametrize(("dtype", "rtol"), [("<f4", 1e-6), ("<f8", 1e-13)])
def test_matrices_are_the_mean_outer_products_in_the_dtype_of_the_gradients(tmp_path, dtype, rtol):
    folder = make(tmp_path, dtype=dtype)
    close = partial(np.testing.assert_allclose, rtol=rtol, atol=rtol)
    for epoch in EPOCHS:
        rows = gradients(epoch)
        matrix = node(folder, FULL, f"epoch_{epoch}/gop")
        assert (matrix.dtype, matrix.shape) == (np.dtype(dtype), (M, M))
        close(matrix, sum(np.outer(row, row) for row in rows) / 3)
        for layer, at in COLUMNS.items():
            close(node(folder, LAYERS, f"epoch_{epoch}/{layer}/gop"), matrix[np.ix_(at, at)])
        mean = rows.mean(0)[200:290].reshape(9, 10)
        close(node(folder, LAYERS, f"epoch_{epoch}/out/weight/gop"), mean @ mean.T)


@pytest.mark.parametrize(("top_k", "counts"), [(10, (3, 2)), (1, (1, 1))])
def test_eigenvectors_solve_the_stored_matrix_up_to_its_rank(tmp_path, top_k, counts):
    folder = make(tmp_path, top_k, "<f8")
    for epoch, count in zip(EPOCHS, counts, strict=True):
        matrix = node(folder, FULL, f"epoch_{epoch}/gop")
        vectors = node(folder, FULL, f"epoch_{epoch}/eigenvectors_top_k")
        assert vectors.shape == (M, count)
        values = np.linalg.eigvalsh(matrix)[::-1][:count]
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-12)
        np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-12 * values[0])


def test_eigenvectors_of_small_eigenvalues_are_orthonormal_too():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(50, 4)))[0].T
    factor = np.linalg.qr(rng.normal(size=(4, 4)))[0] @ (np.logspace(0, -9, 4)[:, None] * basis)
    vectors = eigenvectors(factor, 10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(4), atol=1e-13)
    np.testing.assert_allclose(np.abs(basis @ vectors), np.eye(4), atol=1e-6)


@pytest.mark.parametrize(("number", "stored"), [(0.0, 0.0), (np.nan, np.nan)])
def test_a_gradient_without_directions_has_no_eigenvectors(tmp_path, number, stored):
    folder = make(tmp_path, rows=lambda epoch: np.full((3, M), number))
    np.testing.assert_array_equal(node(folder, FULL, "epoch_0/gop"), np.full((M, M), stored))
    assert node(folder, FULL, "epoch_0/eigenvectors_top_k").shape == (M, 0)


def test_an_infinite_gradient_is_infinite_and_gives_no_warning(tmp_path):
    folder = make(tmp_path, rows=lambda epoch: np.where(np.arange(M) == 3, np.inf, gradients(0)))
    matrix = node(folder, FULL, "epoch_0/gop")
    assert matrix[3, 3] == np.inf
    assert not np.isfinite(matrix[3]).any()
    assert np.isfinite(np.delete(np.delete(matrix, 3, 0), 3, 1)).all()


def test_a_matrix_written_in_bands_is_the_same(tmp_path, monkeypatch):
    factor = np.random.default_rng(1).normal(size=(2, 301))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_matrix(file.create_group("whole"), factor, "<f8")
        monkeypatch.setattr(layout, "BLOCK_BYTES", 8 * 301 * 7)  # 7 rows; chunks have 27
        write_matrix(file.create_group("bands"), factor, "<f8")
        np.testing.assert_allclose(file["bands/gop"][:], file["whole/gop"][:], rtol=1e-13)
        np.testing.assert_allclose(file["bands/gop"][:], factor.T @ factor, rtol=1e-13)


def test_matrices_are_chunked_and_compressed_like_the_rest(tmp_path):
    folder = make(tmp_path)
    for name, path in ((FULL, "epoch_0/gop"), (LAYERS, "epoch_0/in/gop")):
        with h5py.File(folder / name) as file:
            dataset = file[path]
            assert dataset.chunks is not None
            assert (dataset.compression, dataset.compression_opts) == ("gzip", 4)
            assert dataset.shuffle


def test_the_default_has_none_and_every_epoch_of_the_factor_has_all_on_request(tmp_path):
    write(RunWriter(tmp_path / "plain", tables())).finalise()
    assert dense_paths(tmp_path / "plain") == []
    paths = ("gop", "in/gop", "in/weight/gop", "out/gop", "out/weight/gop")
    expected = sorted(f"epoch_{epoch}/{path}" for epoch in EPOCHS for path in paths)
    assert dense_paths(make(tmp_path / "dense")) == expected


def test_the_room_reserved_is_enough_and_not_twice_of_what_random_numbers_take(tmp_path):
    plain, dense = tmp_path / "plain", make(tmp_path / "dense", top_k=100)
    write(RunWriter(plain, tables())).finalise()
    sizes = DenseSizes(Factors.of(TableFile(dense / FULL)), (BATCHES, M), 4, 100)
    rooms = {FULL: sizes.whole(), LAYERS: sizes.layers(("batch", "weight", "sample"))}
    for name, room in rooms.items():
        more = (dense / name).stat().st_size - (plain / name).stat().st_size
        assert more <= len(EPOCHS) * room < 2 * more, name
    assert sizes.layers(("sample",)) == 0


@pytest.mark.parametrize(("before", "after"), [(None, 5), (5, None)])
def test_a_resumed_run_may_change_it_for_all_epochs(tmp_path, before, after):
    write(RunWriter(tmp_path, tables(), dense_top_k=before), [0]).finalise()
    write(RunWriter(tmp_path, tables(), 5, dense_top_k=after), [5]).finalise()
    found = {path.partition("/")[0] for path in dense_paths(tmp_path)}
    assert found == ({"epoch_0", "epoch_5"} if after else set())


def small_disk(patch, limit):
    """No file system gives more than ``limit`` bytes to a file any more."""
    whole = hdf5_files.write_at

    def write_at(fd, data, offset):
        if offset + len(data) > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(fd, data, offset)

    patch.setattr(hdf5_files, "write_at", write_at)


@pytest.mark.refusal
def test_matrices_that_the_disk_has_no_room_for_leave_the_rows_and_can_be_given_up(
    tmp_path, monkeypatch
):
    writer = write(RunWriter(tmp_path, tables(), dense_top_k=5))
    with monkeypatch.context() as patch:
        small_disk(patch, 150_000)
        with pytest.raises(StoreFullError, match=r"no room for more of .*gop_full\.h5"):
            writer.finalise()
    writer.close()
    assert not [*tmp_path.glob(".*.part")]
    for epoch, row in enumerate(TableFile(tmp_path / FULL).read("batch", "gradient")):
        np.testing.assert_array_equal(row[:3], gradients(EPOCHS[epoch]))
    with monkeypatch.context() as patch:
        small_disk(patch, 150_000)
        RunWriter(tmp_path, tables(), 6).finalise()
    assert all(TableFile(tmp_path / name).final for name in tables())
    assert dense_paths(tmp_path) == []
