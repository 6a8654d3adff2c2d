"""A run's three files: growing, resuming, refusing, and their final form."""

from __future__ import annotations

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from grokscope.store import RunWriter, TableFile, finalise, hdf5_files, reopen
from grokscope.store.layout import Column, Table
from grokscope.store.run_writer import FULL, LAYERS, METRICS
from grokscope.store.writer import StoreFullError

INTEGER = Column(dtype="<i8")
CLOCK = {"epoch": INTEGER, "step": INTEGER}
LAYER_NAMES = ["first", "block.1", "head"]
ROOT = Table("", {"epoch": INTEGER, "train_loss": Column(), "eigenvalues_top_k": Column((4,))})
GLOBAL = Table("gop/batch", {**CLOCK, "trace": Column()})
BATCH = Table(
    "batch",
    {**CLOCK, "trace": Column((3,)), "eigenvalues_top_k": Column((3, 4))},
    {"layers": LAYER_NAMES},
)
WEIGHT = dataclasses.replace(BATCH, path="weight")
FACTOR = Table(
    "batch",
    {
        **CLOCK,
        "n_batches": INTEGER,
        "eigenvalues": Column((2,)),
        "gradient": Column((2, 1000), "<f4"),
    },
    {"parameters": [{"name": "w", "layer": "first", "offset": 0, "shape": (10, 100)}]},
)
TABLES = {
    METRICS: [(ROOT, 40), (GLOBAL, 40)],
    LAYERS: [(BATCH, 40), (WEIGHT, 40)],
    FULL: [(FACTOR, 8)],
}


CACHE = {}


def row_of(table, epoch):
    key = (table.path, tuple(table.columns.items()), epoch)
    if key not in CACHE:
        rng = np.random.default_rng([len(table.columns), len(table.path), epoch])
        row = {name: rng.random(column.shape) for name, column in table.columns.items()}
        CACHE[key] = row | {"epoch": epoch, "step": 2 * epoch, "n_batches": 2}
    return CACHE[key]


def write(run, epochs, tables=TABLES):
    for epoch in epochs:
        for name, entries in tables.items():
            for table, _ in entries:
                if table is not FACTOR or epoch % 10 == 0:
                    run.append(name, table.path, row_of(table, epoch))
    return run


def expected(table, column, epochs):
    values = [row_of(table, epoch)[column] for epoch in epochs]
    kind = table.columns[column]
    return np.asarray(values, dtype=kind.dtype).reshape(len(values), *kind.shape)


def check(folder, epochs):
    for name, entries in TABLES.items():
        for table, _ in entries:
            there = [e for e in epochs if table is not FACTOR or e % 10 == 0]
            file = TableFile(folder / name)
            assert file.rows(table.path) == len(there)
            for column in table.columns:
                np.testing.assert_array_equal(
                    file.read(table.path, column), expected(table, column, there)
                )


@pytest.fixture
def final(tmp_path):
    write(RunWriter(tmp_path / "run", TABLES), range(40)).finalise()
    return tmp_path / "run"


def files_of(folder):
    """Names of what a user sees there."""
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_rows_of_all_files_come_back_live_and_final(tmp_path):
    run = write(RunWriter(tmp_path, TABLES), range(25))
    check(tmp_path, range(25))
    run.finalise()
    check(tmp_path, range(25))
    assert files_of(tmp_path) == sorted(TABLES)


def test_more_rows_at_once_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(reopen, "FIRST_ROOM", 2)
    run = RunWriter(tmp_path, {METRICS: [(ROOT, None)]})
    rows = [row_of(ROOT, epoch) for epoch in range(11)]
    run.extend(METRICS, "", {name: [row[name] for row in rows] for name in ROOT.columns})
    run.close()
    np.testing.assert_array_equal(
        TableFile(tmp_path / METRICS).read("", "train_loss"),
        expected(ROOT, "train_loss", range(11)),
    )


def test_a_run_of_unknown_length_grows_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(reopen, "FIRST_ROOM", 2)
    tables = {METRICS: [(ROOT, None), (GLOBAL, None)]}
    run = RunWriter(tmp_path, tables)
    for epoch in range(50):
        run.append(METRICS, "", row_of(ROOT, epoch))
        if epoch % 7 == 0:
            run.append(METRICS, "gop/batch", row_of(GLOBAL, epoch))
        assert TableFile(tmp_path / METRICS).rows("") == epoch + 1
    run.finalise()
    file = TableFile(tmp_path / METRICS)
    np.testing.assert_array_equal(
        file.read("", "train_loss"), expected(ROOT, "train_loss", range(50))
    )
    np.testing.assert_array_equal(file.read("gop/batch", "epoch"), range(0, 50, 7))


def test_more_rows_than_were_announced_do_not_stop_a_run(tmp_path):
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 3), (GLOBAL, 0)]})
    for epoch in range(9):
        run.append(METRICS, "", row_of(ROOT, epoch))
        run.append(METRICS, "gop/batch", row_of(GLOBAL, epoch))
    assert TableFile(tmp_path / METRICS).rows("gop/batch") == 9
    run.close()


@pytest.mark.parametrize("ended", ["live", "final"])
@pytest.mark.parametrize("epoch", [0, 20, 1000])
def test_resume_keeps_rows_before_its_epoch_and_drops_later_ones(tmp_path, ended, epoch):
    run = write(RunWriter(tmp_path, TABLES), range(30))
    run.finalise() if ended == "final" else run.close()
    again = RunWriter(tmp_path, TABLES, resume_epoch=epoch)
    kept = min(epoch, 30)
    check(tmp_path, range(kept))
    write(again, range(kept, 36)).finalise()
    check(tmp_path, range(36))


def test_resume_in_an_empty_folder_starts_there(tmp_path):
    write(RunWriter(tmp_path / "new", TABLES, resume_epoch=20), range(20, 25)).finalise()
    check(tmp_path / "new", range(20, 25))


def test_a_resumed_run_may_add_a_table(tmp_path):
    few = {METRICS: [(ROOT, 10)]}
    write(RunWriter(tmp_path, few), range(5), few).finalise()
    more = {METRICS: [(ROOT, 10), (GLOBAL, 10)], LAYERS: [(BATCH, 10)]}
    write(RunWriter(tmp_path, more, resume_epoch=5), range(5, 8), more).close()
    file = TableFile(tmp_path / METRICS)
    assert file.read("", "epoch").tolist() == list(range(8))
    assert file.read("gop/batch", "epoch").tolist() == [5, 6, 7]


def change(**columns):
    return dataclasses.replace(BATCH, columns={**BATCH.columns, **columns})


DIFFERENT = {
    "a further column": (change(rank=Column((3,))), r"other columns \(rank\)"),
    "another size": (change(trace=Column((5,))), r"other columns \(trace\)"),
    "another type": (change(trace=Column((3,), "<f4")), r"other columns \(trace\)"),
    "other layers": (dataclasses.replace(BATCH, attributes={"layers": list("abc")}), "layers"),
    "a column less": (
        dataclasses.replace(
            BATCH, columns={n: c for n, c in BATCH.columns.items() if n[0] != "t"}
        ),
        r"other columns \(trace\)",
    ),
    "a table less": (None, "is not written any more"),
}


@pytest.mark.refusal
@pytest.mark.parametrize("ended", ["live", "final"])
@pytest.mark.parametrize("name", DIFFERENT)
def test_resume_with_other_columns_is_refused_before_any_file_is_touched(tmp_path, name, ended):
    run = write(RunWriter(tmp_path, TABLES), range(20))
    run.finalise() if ended == "final" else run.close()
    table, reason = DIFFERENT[name]
    changed = [(table, 40)] if table else []
    tables = {**TABLES, LAYERS: [*changed, (WEIGHT, 40)]}
    with pytest.raises(ValueError, match=rf"table 'batch' of .*{LAYERS}.*{reason}"):
        RunWriter(tmp_path, tables, resume_epoch=10)
    check(tmp_path, range(20))
    assert files_of(tmp_path) == sorted(TABLES)


def test_other_columns_do_not_matter_where_no_row_is_kept(tmp_path):
    write(RunWriter(tmp_path, TABLES), range(20)).close()
    tables = {**TABLES, LAYERS: [(DIFFERENT["another size"][0], 40)]}
    RunWriter(tmp_path, tables, resume_epoch=0).close()
    assert TableFile(tmp_path / LAYERS).rows("batch") == 0


@pytest.mark.refusal
@pytest.mark.parametrize("name", [METRICS, FULL, LAYERS])
def test_a_folder_with_another_runs_rows_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"must not hold another run's rows.*{name}"):
        RunWriter(tmp_path, TABLES)
    assert (tmp_path / name).read_bytes() == b"precious"


def test_other_files_in_the_folder_do_not_matter(tmp_path):
    (tmp_path / "mine.h5").write_bytes(b"not even HDF5")
    RunWriter(tmp_path, TABLES, resume_epoch=3).close()
    assert (tmp_path / "mine.h5").read_bytes() == b"not even HDF5"


@pytest.mark.refusal
def test_resume_of_a_damaged_file_is_refused(tmp_path):
    (tmp_path / METRICS).write_bytes(b"garbage")
    with pytest.raises(ValueError, match=f"{METRICS} cannot be read"):
        RunWriter(tmp_path, TABLES, resume_epoch=3)


def test_the_final_form_is_chunked_compressed_and_smaller(tmp_path):
    table = Table("", {"epoch": INTEGER, "x": Column((50,)), "g": Column()})
    run = RunWriter(tmp_path, {METRICS: [(table, 5000)]})
    for epoch in range(1500):
        run.append(METRICS, "", {"epoch": epoch, "x": np.full(50, epoch // 9), "g": 0.5})
    before = (tmp_path / METRICS).stat().st_blocks * 512
    run.finalise()
    assert (tmp_path / METRICS).stat().st_size < before / 5
    assert TableFile(tmp_path / METRICS).final
    with h5py.File(tmp_path / METRICS) as file:
        for name in table.columns:
            assert len(file[name]) == 1500
            assert file[name].chunks is not None
            assert (file[name].compression, file[name].compression_opts) == ("gzip", 4)
            assert file[name].shuffle
        np.testing.assert_array_equal(file["x"][:, 7], np.arange(1500) // 9)


def test_a_table_without_rows_becomes_final(tmp_path):
    run = RunWriter(tmp_path, TABLES)
    run.finalise()
    check(tmp_path, [])
    run.finalise()  # once more does no harm


def test_the_top_level_of_metrics_holds_rows_of_equal_number_and_groups_only(final):
    with h5py.File(final / METRICS) as file:
        nodes = [file[name] for name in file]
        datasets = [node for node in nodes if isinstance(node, h5py.Dataset)]
        assert all(isinstance(node, (h5py.Dataset, h5py.Group)) for node in nodes)
        assert {len(dataset) for dataset in datasets} == {40}
        assert all(dataset.dtype.kind in "fi" for dataset in datasets)
        assert {"epoch", "train_loss", "eigenvalues_top_k"} <= set(file)


def test_gradients_are_views_by_epoch_also_where_the_folder_was_moved_to(final, tmp_path):
    shutil.copytree(final, tmp_path / "copy")
    shutil.move(final, tmp_path / "elsewhere")
    shutil.move(tmp_path / "copy", tmp_path / "other")
    for folder in (tmp_path / "elsewhere", tmp_path / "other"):
        with h5py.File(folder / FULL) as file:
            assert {n for n in file if n[0] == "e"} == {f"epoch_{n}" for n in (0, 10, 20, 30)}
            for epoch in (0, 10, 20, 30):
                group, row = file[f"epoch_{epoch}"], row_of(FACTOR, epoch)
                assert group["gradient"].is_virtual
                np.testing.assert_array_equal(group["gradient"][:], row["gradient"].astype("f4"))
                np.testing.assert_array_equal(group["eigenvalues"][:], row["eigenvalues"])
                assert dict(group.attrs) == {"step": 2 * epoch, "n_batches": 2}


def test_layers_have_groups_by_epoch_with_their_metrics_as_attributes(final):
    with h5py.File(final / LAYERS) as file:
        for kind, table in (("", BATCH), ("/weight", WEIGHT)):
            for i, layer in enumerate(LAYER_NAMES):
                group, row = file[f"epoch_20/{layer}{kind}"], row_of(table, 20)
                np.testing.assert_array_equal(
                    group["eigenvalues_top_k"][:], row["eigenvalues_top_k"][i]
                )
                assert dict(group.attrs) == {"trace": row["trace"][i]}
        assert sum(name.startswith("epoch_") for name in file) == 4


def test_many_metrics_fit_into_the_attributes_of_a_layer(tmp_path):
    metrics = {f"metric_{i}": Column((1,)) for i in range(300)}
    table = Table(
        "batch", CLOCK | metrics | {"eigenvalues_top_k": Column((1, 1))}, {"layers": ["a"]}
    )
    tables = {METRICS: [(ROOT, 1)], LAYERS: [(table, 1)], FULL: [(FACTOR, 1)]}
    write(RunWriter(tmp_path, tables), [0], tables).finalise()
    with h5py.File(tmp_path / LAYERS) as file:
        assert len(file["epoch_0/a"].attrs) == 300


def test_reserved_room_is_given_back(final):
    assert all((final / name).stat().st_size < 200_000 for name in TABLES)


@pytest.mark.refusal
def test_a_full_disk_at_the_end_leaves_the_live_file(tmp_path, monkeypatch):
    run = write(RunWriter(tmp_path, TABLES), range(20))

    def full(fd, data, offset):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hdf5_files, "write_at", full)
        with pytest.raises(StoreFullError, match="no room for more of"):
            run.finalise()
    check(tmp_path, range(20))
    assert files_of(tmp_path) == sorted(TABLES)
    run.finalise()
    check(tmp_path, range(20))


def test_an_error_while_compressing_leaves_the_live_file_and_no_draft(tmp_path, monkeypatch):
    run = write(RunWriter(tmp_path, TABLES), range(20))
    monkeypatch.setattr(finalise, "publish", lambda *paths: (_ for _ in ()).throw(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        run.finalise()
    check(tmp_path, range(20))
    assert files_of(tmp_path) == sorted(TABLES)
