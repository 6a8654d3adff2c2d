"""What a power cut can leave of a live file: only whole rows are read, and gone on from."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest

from grokscope.store import RunWriter, TableFile, hdf5_files, periodic_sync, run_writer, writer
from grokscope.store.layout import Column, Table
from grokscope.store.row_checks import RowChecks, first_bad
from grokscope.store.run_writer import METRICS
from grokscope.store.writer import LiveFile

INTEGER = Column(dtype="<i8")
ROOT = Table("", {"epoch": INTEGER, "loss": Column(), "top": Column((3,))})
WIDE = Table("batch", {"epoch": INTEGER, "g": Column((3, 1001), "<f4"), "n": Column()})


def rows_of(table, first, stop):
    epochs = np.arange(first, stop)
    shapes = {name: column.shape for name, column in table.columns.items()}
    values = {n: np.random.default_rng(5).random((60, *s))[epochs] for n, s in shapes.items()}
    return values | {"epoch": epochs}


@pytest.fixture
def live(tmp_path):
    """Twenty rows of two tables, the first twelve of them on the disk."""
    file = LiveFile(tmp_path / METRICS, [(ROOT, 60), (WIDE, 60)])
    for first, stop in ((0, 12), (12, 20)):
        for table in (ROOT, WIDE):
            file.extend(table.path, rows_of(table, first, stop))
        if stop == 12:
            file.sync()
    file.close()
    return file.path


def lose(path, dataset, row, count=1):
    """The bytes of some rows never reached the disk."""
    with h5py.File(path, "r+") as file:
        place, each = file[dataset].id.get_offset(), file[dataset].nbytes // len(file[dataset])
    with path.open("r+b") as raw:
        raw.seek(place + row * each)
        raw.write(bytes(count * each))


@pytest.mark.parametrize("dataset", ["epoch", "live/rows", "top", "check/rows"])
def test_rows_end_before_the_first_that_is_not_whole(live, dataset):
    lose(live, dataset, 15)
    file = TableFile(live)
    assert file.rows("") == len(file.read("", "loss")) == 15
    np.testing.assert_array_equal(file.read("", "top"), rows_of(ROOT, 0, 15)["top"])
    assert file.rows("batch") == 20
    assert {name: each.rows for name, each in file.contents().items()} == {"": 15, "batch": 20}


def test_a_part_of_a_wide_row_is_missed_too(live):
    with h5py.File(live, "r+") as file:
        place = file["batch/g"].id.get_offset() + 14 * 3 * 1001 * 4 + 8192
    with live.open("r+b") as raw:
        raw.seek(place)
        raw.write(bytes(512))
    assert TableFile(live).rows("batch") == 14


def test_rows_that_are_on_the_disk_are_not_read_again(live):
    lose(live, "top", 5)  # noted as synced: nothing but a broken disk does that
    assert TableFile(live).rows("") == 20


def test_a_count_that_was_lost_gives_way_to_that_of_the_rows_on_the_disk(live):
    lose(live, "index/rows", 0)
    assert TableFile(live).rows("") == 12
    lose(live, "synced/rows", 0)
    assert TableFile(live).rows("") == 0


def test_a_count_that_was_not_yet_noted_as_synced_is_made_up_by_the_checksums(live):
    lose(live, "synced/rows", 0)
    assert TableFile(live).rows("") == 20
    lose(live, "live/rows", 3)
    assert TableFile(live).rows("") == 3


def test_a_run_goes_on_with_whole_rows_only(live):
    lose(live, "top", 15)
    run = RunWriter(live.parent, {METRICS: [(ROOT, 60), (WIDE, 60)]}, resume_epoch=18)
    assert run.rows() == {METRICS: {"": 15, "batch": 18}}
    run.finalise()
    assert TableFile(live).rows("") == 15


def test_rows_written_one_by_one_and_together_have_the_same_checksums(tmp_path):
    found = []
    for name in ("one", "many"):
        file = LiveFile(tmp_path / name, [(WIDE, 60)])
        if name == "many":
            file.extend("batch", rows_of(WIDE, 0, 9))
        else:
            rows = rows_of(WIDE, 0, 9)
            for i in range(9):
                file.append("batch", {n: values[i] for n, values in rows.items()})
        file.close()
        with h5py.File(file.path) as opened:
            found.append(opened["check/batch"][:9])
        assert TableFile(file.path).rows("batch") == 9
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0, -0.5])
def test_no_page_of_a_row_can_be_lost_unseen(value):
    """Constant pages are the hardest: the plain sum of 512 words of 2.0 is zero modulo 2^64."""
    sizes = {"epoch": 8, "g": 5 * 4096 + 12}
    checks, row = RowChecks(sizes), {"epoch": np.array([[7]], "<i8")}
    row["g"] = np.frombuffer(np.full(sizes["g"] // 4, value, "<f4").tobytes(), np.uint8)[None]
    stored = checks.of_rows(row)
    assert stored[0] != 0
    for start in range(0, sizes["g"], 512):
        torn = row["g"].copy()
        torn[:, start : start + 4096] = 0
        changed = bool((torn != row["g"]).any())
        assert bool(first_bad(checks.of_rows(row | {"g": torn}), stored) == 0) == changed


def test_an_older_live_file_is_read_by_its_count(live):
    with h5py.File(live, "r+") as file:
        del file["check"], file["synced"]
    assert TableFile(live).rows("") == 20


def test_rows_reach_the_disk_every_few_seconds(tmp_path, monkeypatch):
    synced = threading.Event()
    real = LiveFile.sync

    def sync(self):
        real(self)
        synced.set()

    monkeypatch.setattr(LiveFile, "sync", sync)
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60)]}, sync_seconds=0.01)
    run.extend(METRICS, "", rows_of(ROOT, 0, 7))
    synced.clear()
    assert synced.wait(10)
    run.close()
    with h5py.File(tmp_path / METRICS) as file:
        assert file["synced/rows"][0] == 7


def test_a_disk_that_loses_rows_ends_the_run_and_not_the_thread(tmp_path, monkeypatch):
    def broken(self):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ended = []
    monkeypatch.setattr(LiveFile, "sync", broken)
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60)]}, sync_seconds=0.001)
    run._periodic._thread.join(10)
    for act in (run.sync, run.finalise, lambda: run.append(METRICS, "", {})):
        with pytest.raises(OSError, match="Input/output"):
            act()
        ended.append(act)
    assert len(ended) == 3
    run.close()


def test_nothing_is_synced_after_the_end(tmp_path):
    calls = []
    periodic = periodic_sync.PeriodicSync(lambda: calls.append(1), 0.001)
    while not calls:
        pass
    periodic.close()
    count = len(calls)
    assert not periodic._thread.is_alive()
    assert len(calls) == count


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("stays", [False, True])
def test_every_failed_write_of_the_final_form_leaves_the_live_file(
    tmp_path, monkeypatch, code, stays
):
    """HDF5 itself would end the process, or lose a column without a word."""
    real, n, done = hdf5_files.write_at, 0, False
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60), (WIDE, 60)]})
    for table in (ROOT, WIDE):
        run.extend(METRICS, table.path, rows_of(table, 0, 60))
    while not done:
        calls = []

        def fails(fd, data, offset, calls=calls, n=n):
            calls.append(1)
            if len(calls) - 1 == n or (stays and len(calls) > n):
                raise OSError(code, os.strerror(code))
            real(fd, data, offset)

        monkeypatch.setattr(hdf5_files, "write_at", fails)
        try:
            run.finalise()
            done = True
        except OSError:
            assert not TableFile(tmp_path / METRICS).final
            assert TableFile(tmp_path / METRICS).rows("batch") == 60
        assert sorted(os.listdir(tmp_path)) == [".lock", METRICS]
        n += 1
    assert n > 10
    file = TableFile(tmp_path / METRICS)
    assert file.final
    np.testing.assert_array_equal(file.read("batch", "g"), rows_of(WIDE, 0, 60)["g"].astype("<f4"))


def test_a_final_form_that_is_not_the_same_does_not_take_its_place(tmp_path, monkeypatch):
    real = hdf5_files.write_at

    def other(fd, data, offset):
        real(fd, bytes(len(data)) if len(data) > 2000 else data, offset)

    run = RunWriter(tmp_path, {METRICS: [(WIDE, 60)]})
    run.extend(METRICS, "batch", rows_of(WIDE, 0, 60))
    monkeypatch.setattr(hdf5_files, "write_at", other)
    with pytest.raises((OSError, ValueError)):
        run.finalise()
    assert not TableFile(tmp_path / METRICS).final
    np.testing.assert_array_equal(TableFile(tmp_path / METRICS).read("batch", "epoch"), range(60))


def test_notes_of_a_user_are_kept_by_resuming_and_in_the_final_form(tmp_path):
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60)]})
    run.extend(METRICS, "", rows_of(ROOT, 0, 9))
    run.close()
    with h5py.File(tmp_path / METRICS, "a") as file:
        for i in range(12):  # more than eight are stored elsewhere
            file.attrs[f"note{i}"] = f"text {i}"
        file["loss"].attrs["unit"] = "nats"
        file["top"].attrs.update({f"n{i}": np.arange(i) for i in range(12)})
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60)]}, resume_epoch=6)
    run.finalise()
    assert TableFile(tmp_path / METRICS).rows("") == 6
    with h5py.File(tmp_path / METRICS) as file:
        assert {f"note{i}": f"text {i}" for i in range(12)}.items() <= dict(file.attrs).items()
        assert file["loss"].attrs["unit"] == "nats"
        np.testing.assert_array_equal(file["top"].attrs["n5"], range(5))


def test_the_default_is_that_of_the_documentation():
    assert run_writer.SYNC_SECONDS == 5.0


def broken_once(monkeypatch):
    """The next sync fails, as Linux tells of lost pages, and later ones succeed."""
    failed = []

    def sync(fd):
        if not failed:
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writer, "to_disk", sync)


def synced(path):
    with h5py.File(path, "r") as file:
        return int(file["synced/rows"][0])


def test_rows_that_may_be_lost_are_never_noted_as_synced(tmp_path, monkeypatch):
    live = LiveFile(tmp_path / METRICS, [(ROOT, 60)])
    live.extend("", rows_of(ROOT, 0, 5))
    live.sync()
    live.extend("", rows_of(ROOT, 5, 9))
    broken_once(monkeypatch)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            live.sync()
    live.close()
    assert synced(tmp_path / METRICS) == 5


def test_a_run_whose_rows_may_be_lost_is_closed_and_not_finalised(tmp_path, monkeypatch):
    run = RunWriter(tmp_path, {METRICS: [(ROOT, 60)]}, sync_seconds=1000)
    run.extend(METRICS, "", rows_of(ROOT, 0, 5))
    broken_once(monkeypatch)
    with pytest.raises(OSError, match="Input/output"):
        run.finalise()
    run.close()
    assert synced(tmp_path / METRICS) == 0
    assert not TableFile(tmp_path / METRICS).final


@pytest.mark.parametrize("way", ["grow", "finalise"])
@pytest.mark.parametrize("loss", ["a row", "the file"])
def test_no_file_is_rewritten_without_all_its_rows(tmp_path, way, loss):
    run = RunWriter(tmp_path, {METRICS: [(ROOT, None)]}, sync_seconds=1000)
    run.extend(METRICS, "", rows_of(ROOT, 0, 5))
    if loss == "a row":
        lose(tmp_path / METRICS, "live/rows", 3)
    else:
        (tmp_path / METRICS).rename(tmp_path / "moved.h5")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError):  # noqa: PT011 - with the file's name, or without it
        run._grow(METRICS) if way == "grow" else run.finalise()
    run.close()
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("at", range(0, 60, 7))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_while_hdf5_writes_is_answered_after_that(tmp_path, at, number):
    """In a process of its own: a handler that raised there used to end it."""
    script = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_power_cut import METRICS, ROOT, RunWriter, TableFile, hdf5_files, rows_of
class Stop(BaseException): pass
def stop(number, frame): raise Stop
signal.signal({int(number)}, stop)
run = RunWriter(Path({str(tmp_path)!r}), {{METRICS: [(ROOT, 60)]}}, sync_seconds=1000)
run.extend(METRICS, "", rows_of(ROOT, 0, 50))
calls, seek = 0, hdf5_files._Target.seek
def signalled(self, *given):
    global calls
    calls += 1
    if calls == {at}:
        os.kill(os.getpid(), {int(number)})
    return seek(self, *given)
hdf5_files._Target.seek = signalled
try:
    run.finalise()
    print("done")
except Stop:
    print("stopped")
assert TableFile(Path({str(tmp_path)!r}) / METRICS).rows("") == 50
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("stopped\n", "done\n")
    assert (done.stdout == "done\n") <= (at == 0 or at > 20)
    assert sorted(os.listdir(tmp_path)) == [".lock", METRICS]


def test_whatever_ends_the_thread_ends_the_run():
    def sync():
        raise RuntimeError("not foreseen")

    periodic = periodic_sync.PeriodicSync(sync, 0.001)
    periodic._thread.join()
    with pytest.raises(RuntimeError, match="not foreseen"):
        periodic.check()
    periodic.close()


def test_a_sync_may_be_as_rare_as_one_likes():
    periodic = periodic_sync.PeriodicSync(lambda: None, 1e300)
    periodic._thread.join(0.1)
    assert periodic._thread.is_alive()
    periodic.close()
    periodic.check()
