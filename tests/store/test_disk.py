"""Predicted sizes, full disks by their name, and ``run.json`` on a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grokscope.store import disk, info
from grokscope.store.disk import Forecast, Growth, Part, size_text, too_large
from grokscope.store.writer import StoreFullError

BIG = Part("gop_full.h5", "batch", 100, 10**7, "schedule.factor")
SMALL = Part("metrics.h5", "top level", 1_000, 800, "schedule.metrics")
TWIN = Part("metrics.h5", "gop/batch", 1_000, 1_200, "schedule.batch", "as dense as 'log 500'")
FORECAST = Forecast((SMALL, TWIN, BIG))


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_960, "1.0 MB"), (1.5e9, "1.5 GB")],
)
def test_sizes_are_readable(size, text):
    assert size_text(int(size)) == text


def test_a_forecast_adds_up_its_parts_and_the_largest_file_again():
    assert FORECAST.total == 1_002_000_000
    assert FORECAST.scratch == 1_000_000_000
    assert Forecast((SMALL, TWIN)).scratch == 2_000_000  # one file, two tables
    saved = Part("checkpoints", "", 9, 10**9, "schedule.checkpoint")  # counts its own draft
    assert Forecast((SMALL, saved)).scratch == 800_000
    views = Part("metrics.h5", "epoch_<n>", 9, 10**9, "schedule.factor", at_end=True)
    assert Forecast((SMALL, views)).scratch == 800_000  # never there beside the old file
    assert Forecast(()).total == Forecast(()).scratch == 0


def test_the_table_names_every_part_its_setting_and_what_is_an_estimate():
    lines = list(FORECAST.lines())
    assert lines[0].split() == ["part", "rows", "a", "row", "bytes", "setting"]
    assert lines[2].split() == [
        *("metrics.h5", "gop/batch", "1,000", "1.2", "kB", "1.2", "MB"),
        *("schedule.batch;", "as", "dense", "as", "'log", "500'"),
    ]
    assert "total, at most" in lines[-2]
    assert "1.0 GB" in lines[-2]
    assert len({line.index("schedule") for line in lines[1:4]}) == 1  # aligned


@pytest.mark.refusal
def test_a_run_above_the_limit_is_told_what_is_large(tmp_path):
    assert too_large(FORECAST, tmp_path, FORECAST.total) is None
    text = too_large(FORECAST, tmp_path, 10**6)
    assert text.startswith("storage.max_bytes must be >= the 1,002,000,000 bytes (1.0 GB)")
    assert "got 1,000,000; largest: gop_full.h5 batch 1.0 GB (schedule.factor), metrics" in text
    assert "storage.on_too_large=warn" in text


@pytest.mark.refusal
def test_a_run_above_the_free_space_is_refused_but_for_what_is_there_already(
    tmp_path, monkeypatch
):
    needed = FORECAST.total + FORECAST.scratch
    monkeypatch.setattr(disk, "free_bytes", lambda folder: needed - 1)
    text = too_large(FORECAST, tmp_path / "run", None)
    assert "must fit on the disk: it may need 2.0 GB" in text
    assert "(paths.log_dir); largest: gop_full.h5 batch" in text
    (tmp_path / "metrics.h5").write_bytes(b"x" * 10_000)
    assert too_large(FORECAST, tmp_path, None) is None


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    free = disk.free_bytes(tmp_path)
    assert abs(disk.free_bytes(tmp_path / "a" / "b") - free) < 2**30
    assert disk.free_bytes(Path("nowhere/at/all")) > 0


def test_the_size_of_a_folder_counts_checkpoints_and_no_holes(tmp_path):
    assert disk.folder_bytes(tmp_path / "absent") == 0
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"x" * 50_000)
    with (tmp_path / "metrics.h5").open("wb") as file:
        file.truncate(10**9)
    assert 50_000 <= disk.folder_bytes(tmp_path) < 200_000


def test_growth_is_written_now_and_then(tmp_path, monkeypatch):
    info.update_info(tmp_path, status="running")
    clock = [100.0]
    monkeypatch.setattr(disk.time, "monotonic", lambda: clock[0])
    growth = Growth(tmp_path, seconds=30)
    growth.report()
    assert "disk_bytes" not in info.read_info(tmp_path)
    clock[0] += 31
    growth.report()
    assert info.read_info(tmp_path)["disk_bytes"] > 0
    monkeypatch.setattr(disk, "folder_bytes", lambda folder: 1 / 0)
    growth.report()


def _full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_run_json_is_overwritten_in_place_where_there_is_no_room_for_a_draft(
    tmp_path, monkeypatch
):
    info.update_info(tmp_path, status="running", error="x" * 300)
    monkeypatch.setattr(Path, "write_bytes", _full)
    info.update_info(tmp_path, status=info.DISK_FULL, error=None)
    assert info.read_info(tmp_path) == {"status": "failed: disk full", "error": None}
    assert os.listdir(tmp_path) == [info.NAME]


@pytest.mark.refusal
def test_the_old_run_json_stays_where_there_is_no_room_at_all(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from grokscope.store.info import update_info
folder = Path(sys.argv[1])
update_info(folder, status="running", seed=3)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    update_info(folder, error="x" * 1000)
except OSError as error:
    sys.exit(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode in (errno.EFBIG, errno.ENOSPC)
    assert info.read_info(tmp_path) == {"status": "running", "seed": 3}
    assert os.listdir(tmp_path) == [info.NAME]


def test_a_full_disk_is_known_behind_other_errors():
    for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        error = RuntimeError("save failed")
        error.__cause__ = OSError(code, "full")
        assert disk.full_disk_cause(error) is error.__cause__
        assert disk.failure(error) == "failed: disk full"
    own, later = StoreFullError("full"), OSError(errno.ENOSPC, "log")
    own.__cause__ = OSError(errno.ENOSPC, "row")
    later.__context__ = own
    assert disk.full_disk_cause(later) is own
    assert disk.full_disk_cause(OSError(errno.EACCES, "denied")) is None
    assert disk.failure(ValueError("other")) == "failed"


def test_the_user_is_told_how_to_go_on(tmp_path):
    error = OSError(errno.ENOSPC, "No space left on device", "a.ckpt")
    text = disk.full_disk_text(error, tmp_path)
    assert text.startswith("no room for a.ckpt (No space left on device); free some space")
    assert text.endswith("(there is no checkpoint yet: start again).")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.part").touch()
    assert "start again" in disk.full_disk_text(error, tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    text = disk.full_disk_text(StoreFullError("no room for more of x; then resume."), tmp_path)
    assert text == f"no room for more of x; then resume (run={tmp_path})."
