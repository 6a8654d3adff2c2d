"""Rows come back exactly, live and final; short writes, full disks and kills lose none."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from grokscope.store import TableFile, memory, writer
from grokscope.store.layout import Column, Table
from grokscope.store.writer import LiveFile, StoreFullError

INTEGER = Column(dtype="<i8")
ROOT = Table("", {"epoch": INTEGER, "loss": Column(), "top": Column((3,))})
DEEP = Table("gop/batch", {"epoch": INTEGER, "g": Column((2, 4), "<f4")}, {"layers": ["a", "b"]})


def root_row(epoch):
    return {"epoch": epoch, "loss": 0.1 + epoch, "top": np.arange(3) * 0.3 + epoch}


def deep_row(epoch):
    return {"epoch": 10 * epoch, "g": np.arange(8).reshape(2, 4) / 7 + epoch}


def new(folder, room=20):
    return LiveFile(folder / "metrics.h5", [(ROOT, room), (DEEP, room)])


def filled(folder, rows=5):
    live = new(folder)
    for epoch in range(rows):
        live.append("", root_row(epoch))
        live.append("gop/batch", deep_row(epoch))
    return live


def test_rows_come_back_exactly_while_the_writer_writes(tmp_path):
    live = filled(tmp_path)
    file = TableFile(live.path)
    assert file.tables() == ["gop/batch", ""] or file.tables() == ["", "gop/batch"]
    assert file.rows("") == file.rows("gop/batch") == 5
    assert not file.final
    np.testing.assert_array_equal(file.read("", "epoch"), range(5))
    np.testing.assert_array_equal(file.read("", "loss"), [0.1 + e for e in range(5)])
    np.testing.assert_array_equal(file.read("", "top"), [root_row(e)["top"] for e in range(5)])
    g = file.read("gop/batch", "g")
    np.testing.assert_array_equal(g, np.stack([deep_row(e)["g"] for e in range(5)]).astype("f4"))
    assert g.dtype == np.float32
    assert file.attribute("gop/batch", "layers") == ["a", "b"]
    live.close()


def test_a_live_file_opens_in_plain_h5py_with_its_lock_and_the_writer_goes_on(tmp_path):
    live = filled(tmp_path)
    with h5py.File(live.path, "r") as file:
        np.testing.assert_array_equal(file["epoch"][:5], range(5))
        live.append("", root_row(5))
    assert TableFile(live.path).rows("") == 6
    live.close()


def test_an_uncounted_row_is_not_returned(tmp_path, monkeypatch):
    live = filled(tmp_path)
    monkeypatch.setattr(live._tables[""], "_count", lambda rows: None)
    live.append("", root_row(5))
    file = TableFile(live.path)
    assert file.rows("") == len(file.read("", "loss")) == len(dict(file.everything())[""]["top"])
    assert file.rows("") == 5
    with h5py.File(live.path) as plain:
        assert plain["loss"][5] == 5.1
    live.close()


def test_a_column_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    filled(tmp_path).close()
    file = TableFile(tmp_path / "metrics.h5")
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(memory, "free_memory", lambda: 100)
    for read in (lambda: file.read("", "top"), lambda: dict(file.everything())):
        with pytest.raises(ValueError, match=r"cannot be read: /(top|gop/batch/g) takes 1\d0"):
            read()
    assert file.read("", "top", first=3).shape == (3, 3)
    assert file.read_row("", "top", 4).shape == (3,)


@pytest.mark.parametrize(
    "value", [1.5, 3, np.float64(1.5), np.float32(1.5), np.array(1.5), True, np.int64(3)]
)
def test_every_kind_of_number_is_stored(tmp_path, value):
    live = new(tmp_path)
    live.append("", {"epoch": 3.0, "loss": value, "top": [1, 2, 3]})
    file = TableFile(live.path)
    assert file.read("", "loss")[0] == value
    assert file.read("", "epoch")[0] == 3
    live.close()


def test_nan_and_infinity_are_stored(tmp_path):
    live = new(tmp_path)
    live.append("", {"epoch": 0, "loss": float("nan"), "top": [np.inf, -np.inf, np.nan]})
    file = TableFile(live.path)
    assert np.isnan(file.read("", "loss")[0])
    np.testing.assert_array_equal(file.read_row("", "top", 0), [np.inf, -np.inf, np.nan])
    live.close()


def test_attributes_larger_than_an_object_header_are_kept(tmp_path):
    names = [f"layer_{i}.{'x' * 50}" for i in range(4000)]
    table = Table("batch", {"epoch": INTEGER}, {"layers": names})
    LiveFile(tmp_path / "a.h5", [(table, 3)]).close()
    assert TableFile(tmp_path / "a.h5").attribute("batch", "layers") == names


@pytest.mark.refusal
@pytest.mark.parametrize("change", [{"top": np.zeros(4)}, {"loss": np.zeros(1)}])
def test_a_wrong_shape_is_refused_and_nothing_counted(tmp_path, change):
    live = filled(tmp_path)
    with pytest.raises(ValueError, match=f"column {next(iter(change))} must have shape"):
        live.append("", root_row(5) | change)
    assert TableFile(live.path).rows("") == 5
    live.close()


@pytest.mark.refusal
def test_more_rows_than_room_are_refused(tmp_path):
    live = new(tmp_path, room=1)
    live.append("", root_row(0))
    assert live.room("") == 0
    with pytest.raises(IndexError, match="room for 1 rows only"):
        live.append("", root_row(1))
    live.close()


@pytest.mark.refusal
def test_an_absent_row_is_refused(tmp_path):
    live = filled(tmp_path)
    for row in (-1, 5):
        with pytest.raises(IndexError, match=r"row must be in 0\.\.4"):
            TableFile(live.path).read_row("", "loss", row)
    live.close()


def test_short_writes_are_continued(tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(
        writer.os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:3], offset)
    )
    live = filled(tmp_path)
    file = TableFile(live.path)
    np.testing.assert_array_equal(file.read("", "top"), [root_row(e)["top"] for e in range(5)])
    assert file.rows("gop/batch") == 5
    live.close()


@pytest.mark.refusal
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("survivors", range(4))
def test_a_full_disk_is_one_clear_error_and_the_row_is_not_counted(
    tmp_path, monkeypatch, code, survivors
):
    live = filled(tmp_path)
    whole, calls = os.pwrite, []

    def pwrite(fd, data, offset):
        calls.append(offset)
        if len(calls) > survivors:
            raise OSError(code, os.strerror(code))
        return whole(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(writer.os, "pwrite", pwrite)
        with pytest.raises(StoreFullError, match=r"no room for more of .*metrics\.h5"):
            live.append("", root_row(5))
    file = TableFile(live.path)
    np.testing.assert_array_equal(file.read("", "loss"), [0.1 + e for e in range(5)])
    live.append("", root_row(5))  # with room again, the run could go on
    assert file.read("", "loss")[5] == 5.1
    live.close()


@pytest.mark.refusal
def test_a_write_of_nothing_is_a_full_disk_and_not_an_endless_loop(tmp_path, monkeypatch):
    live = filled(tmp_path)
    monkeypatch.setattr(writer.os, "pwrite", lambda *arguments: 0)
    with pytest.raises(StoreFullError):
        live.append("", root_row(5))
    live.close()


@pytest.mark.refusal
def test_another_error_of_the_system_stays_what_it_is(tmp_path):
    live = filled(tmp_path)
    live.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        live.append("", root_row(5))
    assert not isinstance(caught.value, StoreFullError)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from grokscope.store import RunWriter, reopen
from grokscope.store.layout import Column, Table
from grokscope.store.writer import StoreFullError

reopen.FIRST_ROOM = 16
table = Table("", {"epoch": Column(dtype="<i8"), "x": Column((500,))})
stage, folder = sys.argv[1], Path(sys.argv[2])
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    if stage == "create":
        limit(1000)
    run = RunWriter(folder, {"metrics.h5": [(table, None)]})
    if stage == "grow":
        limit(400_000)
    for epoch in range(300):
        run.append("metrics.h5", "", {"epoch": epoch, "x": np.random.rand(500)})
        print(epoch, flush=True)
    limit(100_000)
    run.finalise()
except StoreFullError as error:
    print(error, file=sys.stderr)
    sys.exit(7)
"""


@pytest.mark.parametrize(("stage", "least"), [("create", 0), ("grow", 64), ("finalise", 300)])
def test_a_real_size_limit_ends_in_our_error_and_an_intact_file(tmp_path, stage, least):
    command = [sys.executable, "-c", LIMITED, stage, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stderr.startswith("no room for more of"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) >= least
    if stage == "create":
        assert not list(tmp_path.glob("[!.]*"))
    else:
        assert [path.name for path in tmp_path.glob("[!.]*")] == ["metrics.h5"]
        file = TableFile(tmp_path / "metrics.h5")
        assert file.read("", "epoch").tolist() == acknowledged
        assert (file.read("", "x") > 0).all()


ENDLESS = """
import sys
from pathlib import Path
import numpy as np
from grokscope.store import RunWriter
from grokscope.store.layout import Column, Table

integer = Column(dtype="<i8")
root = Table("", {"epoch": integer, "x": Column((7,))})
layers = Table("batch", {"epoch": integer, "g": Column((3, 50))}, {"layers": ["a"]})
tables = {"metrics.h5": [(root, None)], "gop_layers.h5": [(layers, None)]}
run = RunWriter(Path(sys.argv[1]), tables)
for epoch in range(10**6):
    run.append("metrics.h5", "", {"epoch": epoch, "x": np.full(7, epoch + 0.5)})
    run.append("gop_layers.h5", "batch", {"epoch": epoch, "g": np.full((3, 50), epoch + 0.25)})
    sys.stdout.write(f"{epoch}\\n")
    sys.stdout.flush()
"""


def acknowledged_before_kill(folder, seconds):
    """Rows that a real process printed before SIGKILL; some are killed while files grow."""
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    with (folder / "printed").open("wb") as printed:
        child = subprocess.Popen(command, stdout=printed)
        while not (folder / "printed").stat().st_size and child.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    whole = (folder / "printed").read_text().rpartition("\n")[0]
    return int(whole.rpartition("\n")[2])


@pytest.mark.parametrize("kill", range(5))
def test_no_acknowledged_row_is_lost_by_a_kill(tmp_path, kill):
    last = acknowledged_before_kill(tmp_path, random.Random(kill).uniform(0, 0.25))
    for name, table, column, shift in (
        ("metrics.h5", "", "x", 0.5),
        ("gop_layers.h5", "batch", "g", 0.25),
    ):
        file = TableFile(tmp_path / name)
        rows = file.rows(table)
        assert rows > last
        np.testing.assert_array_equal(file.read(table, "epoch"), range(rows))
        values = file.read(table, column).reshape(rows, -1)
        np.testing.assert_array_equal(
            values, np.arange(rows)[:, None] + np.full_like(values, shift)
        )
        with h5py.File(tmp_path / name, "r") as plain:
            assert plain[f"{table}/epoch"][last] == last
