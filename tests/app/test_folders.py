from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from omegaconf import OmegaConf

from grokscope.app.errors import UserError
from grokscope.app.folders import check_log_dir, check_run_dir, checkpoint, claim, run_folder
from grokscope.app.paths import check_folder, expand_home, make_folder


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


def test_of_many_that_start_at_once_each_claims_a_folder(tmp_path):
    start = Barrier(64)

    def begin(_: int) -> str:
        start.wait()
        return claim(tmp_path / "runs" / "x").name

    with ThreadPoolExecutor(64) as pool:
        names = list(pool.map(begin, range(64)))
    assert sorted(names) == sorted(["x", *(f"x-{i}" for i in range(2, 65))])


@pytest.mark.refusal
def test_a_place_where_no_folder_can_be_made_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for place in ("link/runs/x", "file/x", "pipe/x"):
        with pytest.raises(UserError, match=r"^paths\.log_dir must be a folder"):
            claim(tmp_path / place)
    long = tmp_path / ("x" * 300)
    for place in (Path("/proc/x/y"), long / "y", long):
        with pytest.raises(UserError, match=r"^paths\.log_dir must be a folder"):
            claim(place)


@pytest.mark.refusal
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        None,
        True,
        1.5,
        [],
        "a\0b",
        "a\nb",
        "x" * 300,
        "\u00e4" * 200,
        "~nobody/x",
        "x/" * 2000,
    ],
)
def test_what_is_no_path_is_no_folder(value):
    with pytest.raises(UserError, match=r"^key must be a folder, got ") as caught:
        check_folder("key", value)
    assert len(str(caught.value)) < 500


@pytest.mark.refusal
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    for place in ("/proc", "/dev/null", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"^hydra\.run\.dir must be a folder"):
            make_folder("hydra.run.dir", Path(place))


def test_a_tilde_is_the_home_folder_wherever_a_path_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = OmegaConf.create(
        {"paths": {"log_dir": "~/runs"}, "runs": ["~", "a~b"], "run": "${paths.log_dir}/x", "n": 1}
    )
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config, True)
    expand_home(config)
    assert config == {
        "paths": {"log_dir": "/home/me/runs"},
        "runs": ["/home/me", "a~b"],
        "run": "/home/me/runs/x",
        "n": 1,
    }


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
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/a",
        ".a",
        None,
        1.5,
        True,
        "~",
        "a\0",
        "a\nb",
        "n" * 300,
        "\u00e4" * 101,
    ],
)
def test_a_name_must_be_a_folder_name(tmp_path, name):
    with pytest.raises(UserError, match="name must be a plain folder name"):
        check_log_dir(str(tmp_path), name)
