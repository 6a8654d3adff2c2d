from __future__ import annotations

import os

import pytest

from grokscope.app.errors import UserError
from grokscope.app.folders import check_log_dir, check_run_dir, checkpoint, claim, run_folder


def make_run(folder, time=0):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    path = folder / "checkpoints" / "last.ckpt"
    path.touch()
    os.utime(path, (time, time))
    return path


def test_a_claimed_folder_is_nobody_else_s(tmp_path):
    names = [claim(tmp_path / "runs" / "x").name for _ in range(3)]
    assert names == ["x", "x-2", "x-3"]


def test_last_is_the_newest_run_of_that_name(tmp_path):
    make_run(tmp_path / "runs" / "a" / "2", time=5)
    newest = make_run(tmp_path / "runs" / "a" / "1", time=9)
    make_run(tmp_path / "runs" / "b" / "3", time=20)
    assert checkpoint(str(tmp_path), "a", "last") == newest


def test_a_resumed_run_stays_in_its_folder(tmp_path):
    path = make_run(tmp_path / "runs" / "a" / "1")
    assert run_folder(str(tmp_path), "a", str(path)) == str(path.parents[1])
    (path.parents[1] / "run.json").unlink()
    assert run_folder(str(tmp_path), "a", str(path)) != str(path.parents[1])


@pytest.mark.refusal
def test_rows_of_another_run_are_not_written_over(tmp_path):
    path = make_run(tmp_path / "a")
    (tmp_path / "a" / "metrics.h5").touch()
    check_run_dir(tmp_path / "a", path)
    check_run_dir(tmp_path / "new", None)
    for resumed in (None, make_run(tmp_path / "b")):
        with pytest.raises(UserError, match=r"another run's rows, got .*/a with metrics\.h5"):
            check_run_dir(tmp_path / "a", resumed)


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", ".a", None, 1.5])
def test_a_name_must_be_a_folder_name(tmp_path, name):
    with pytest.raises(UserError, match="name must be a plain folder name"):
        check_log_dir(str(tmp_path), name)
