"""A stranger's run folder has links to files of the user: nothing is written through them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import entry
import pytest

from grokscope import Run, runs

FILES = (
    *("run.json", "config.yaml", "metrics.h5", "gop_full.h5", "gop_layers.h5", "metrics.csv"),
    *("train.log", ".lock", "report.html", "curves.png", "gop.png", "checkpoints/last.ckpt"),
    *("checkpoints/epoch_3.ckpt", ".hydra/config.yaml", ".hydra/hydra.yaml"),
    *(".hydra/overrides.yaml", "figures/loss.png", "measured/default/metrics.h5"),
    *("measured/default/run.json", "measured/default/.lock", "console.log", "new.txt"),
)
FOLDERS = ("checkpoints", "figures", "measured", "measured/default", ".hydra")
COMMANDS = {
    "resume": ("train", "trainer.max_epochs=8"),
    "measure": ("measure", "replace=true", "measures.kinds=[batch]"),
    "report": ("report", "figures=[png]"),
}
READ_ONLY = {"checkpoints"}  # may be a link where it is only read
QUICK = [
    *(("resume", name) for name in ("run.json", "train.log", "checkpoints", ".hydra/config.yaml")),
    *(("resume", name) for name in ("metrics.csv", "checkpoints/last.ckpt", ".lock")),
    *(("measure", name) for name in ("measured", "measured/default", "config.yaml")),
    *(("report", name) for name in ("report.html", "figures", "metrics.h5", "checkpoints")),
]
ALL = [(command, name) for command in COMMANDS for name in (*FILES, *FOLDERS)]
REST = [pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in QUICK]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny) -> Path:
    """A finished run with everything that the commands write."""
    folder = tmp_path_factory.mktemp("links")
    settings = ("trainer.max_epochs=6", "schedule.checkpoint=every 3", "report=false")
    run = entry.train(folder, *tiny, *settings).path
    entry.call("measure", f"run={run}", "measures.kinds=[batch]")
    (run / "figures").mkdir()
    for name in FILES:
        (run / name).touch()
    return run


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file by name: bytes, and inode number."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_ino) for p in found}


@pytest.mark.parametrize(("command", "name"), [*QUICK, *REST])
def test_nothing_is_written_through_a_link(
    tmp_path, monkeypatch, capsys, whole, tiny, command, name
):
    run, mine = tmp_path / "run", tmp_path / "mine"
    shutil.copytree(whole, run)
    mine.mkdir()
    os.rename(run / name, mine / "target")
    (run / name).symlink_to(mine / "target")
    before = contents(mine)
    monkeypatch.chdir(tmp_path)
    script, *arguments = COMMANDS[command]
    settings = (*tiny, "schedule.checkpoint=every 3") if command == "resume" else ()
    code = 0
    try:
        entry.call(script, f"run={run}", *settings, *arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    assert contents(mine) == before
    assert (run / name).is_symlink()
    error = capsys.readouterr().err.strip().splitlines()
    if code:
        assert [line[:6] for line in error] == ["error:"], error
        assert str(run / name) in error[0]
    assert code in (0, 1)
    if command == "resume":
        assert code == 1
    if name in READ_ONLY and command != "resume":
        assert code == 0


def test_a_link_to_a_whole_run_is_as_good_as_the_run(tmp_path, whole):
    (tmp_path / "runs" / "deep").mkdir(parents=True)
    shutil.copytree(whole, tmp_path / "scratch")
    (tmp_path / "runs" / "deep" / "mine").symlink_to(tmp_path / "scratch")
    (tmp_path / "runs" / "everything").symlink_to("/")  # not walked through
    found = runs(tmp_path / "runs")
    assert [run.path for run in found] == [tmp_path / "runs" / "deep" / "mine"]
    assert Run.open(found[0].path).metrics["epoch"][-1] == 6
    entry.call("report", f"run={found[0].path}")
    assert (tmp_path / "scratch" / "report.html").is_file()


LOOSE = ("experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "threads=1")
SHORT = (*LOOSE, "report=false", "trainer.max_epochs=1")


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        entry.call("train", *arguments)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: a run must be written through no link: ")
    return line


def test_beginning_anew_removes_no_checkpoints_of_another_folder(tmp_path, capsys):
    settings = (*SHORT, f"paths.log_dir={tmp_path}", "resume=true")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.ckpt").write_bytes(b"weights of months")
    run = tmp_path / "runs" / "none" / "2026-01-01_00-00-00"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"overrides": settings}))
    (run / "checkpoints").symlink_to(tmp_path / "mine")
    assert "checkpoints" in refused(capsys, *settings)
    assert (tmp_path / "mine" / "best.ckpt").read_bytes() == b"weights of months"


def sweep_of(tmp_path: Path, folder: str = "0") -> tuple[Path, tuple[str, ...]]:
    """A stranger's sweep, with a run that is to be done, and the command that does it."""
    sweep, overrides = tmp_path / "sweep", [*SHORT, "seed=0"]
    overrides[overrides.index("report=false")] = "report=False"  # as Hydra writes it
    sweep.mkdir()
    runs = [{"number": 0, "overrides": overrides, "folder": folder}]
    (sweep / "sweep.json").write_text(json.dumps({"command": [], "runs": runs, "jobs": []}))
    where = (f"paths.log_dir={tmp_path}", f"hydra.sweep.dir={sweep}", "resume=true")
    return sweep, ("--multirun", *overrides, *where)


@pytest.mark.parametrize("name", ["multirun.yaml", "sweep.csv", "0", "optimization_results.yaml"])
def test_a_sweep_is_written_through_no_link(tmp_path, capsys, name):
    sweep, command = sweep_of(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.csv").write_text("mine")
    (sweep / name).symlink_to(tmp_path / "mine" / ("" if name == "0" else "metrics.csv"))
    assert name in refused(capsys, *command)
    assert contents(tmp_path / "mine").keys() == {"metrics.csv"}
    assert (tmp_path / "mine" / "metrics.csv").read_text() == "mine"


def test_a_run_of_a_sweep_lies_behind_no_link(tmp_path, capsys):
    sweep, command = sweep_of(tmp_path, "deep/0")
    (tmp_path / "mine" / "0").mkdir(parents=True)
    (sweep / "real").mkdir()
    (sweep / "deep").mkdir()
    (sweep / "deep" / "0").symlink_to(tmp_path / "mine" / "0")
    refused(capsys, *command)
    assert not contents(tmp_path / "mine")
