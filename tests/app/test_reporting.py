"""``python src/report.py``: what it takes, and one line for what it does not."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import entry
import numpy as np
import pytest

from grokscope.callbacks.rows import LOSSES, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.run_writer import METRICS


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A small run; the working folder is beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "nice", lambda step: 0)  # it would last
    path = tmp_path / "run"
    writer = RunWriter(path, {METRICS: [(root_table((), 0), 5)]})
    for epoch in range(5):
        row = dict.fromkeys(LOSSES, 1 / (1 + epoch)) | {"epoch": epoch, "global_step": epoch}
        writer.append(METRICS, "", row)
    writer.finalise()
    update_info(path, status="finished", name="small")
    return path


def call(*arguments: str) -> int:
    try:
        entry.call("report", *arguments)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def refused(capsys, *arguments: str) -> str:
    """The only line of an error."""
    assert call(*arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_it_writes_the_page_and_says_where(folder, capsys):
    assert call(f"run={folder}") == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert "small: finished" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_may_go_elsewhere(folder, capsys):
    assert call(f"run={folder}", "output=here.html") == 0
    assert capsys.readouterr().out.strip() == "here.html"
    assert Path("here.html").stat().st_size > 50_000
    assert not (folder / "report.html").exists()


def test_it_leaves_nothing_in_the_working_folder(folder, tmp_path):
    assert call(f"run={folder}") == 0
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


@pytest.mark.refusal
@pytest.mark.parametrize("live", ["live=true", "live=false"])
def test_a_run_that_is_not_there_is_one_line(folder, capsys, live):
    assert "run must be a run folder, got nowhere" in refused(capsys, "run=nowhere", live)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of run and runs must be given"),
        (["run=run", "runs=run"], "one of run and runs must be given"),
        (["runs=run", "live=true"], "run must be a run folder where live=true"),
        (["run=run", "live=perhaps"], "live must be true or false"),
        (["run=run", "live=true", "port=-1"], "port must be"),
        (["run=run", "live=true", "port=x"], "port must be"),
        (["run=run", "live=true", "port=65536"], "port must be an integer from 0 to 65535"),
        (["run=run", "live=true", "port=1e400"], "port must be"),
        (["run=run", "live=true", "port=0", "host=203.0.113.1"], "cannot be served"),
        (["run=run", "live=true", "port=0", "host=no.such.host.invalid"], "cannot be served"),
        (["run=run", "output=no/such/page.html"], "output must lie in a folder that exists"),
        (["run=run", "output=run"], "output must be a file, got run: it is a folder"),
        (["run=run", "nonsense=1"], "nonsense"),
    ],
)
def test_what_it_cannot_do_is_one_line(folder, capsys, arguments, words):
    assert words in refused(capsys, *arguments)


@pytest.mark.refusal
@pytest.mark.parametrize("which", ["run", "runs"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_a_page_is_not_put_in_the_place_of_a_pipe_a_socket_or_a_device(
    folder, capsys, kind, which
):
    place = Path("place")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/full")  # as root a failure of this test would replace the device
    else:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(place))
    before = place.lstat()
    assert f"got place: it is a {kind}" in refused(capsys, f"{which}={folder}", "output=place")
    after = place.lstat()
    assert (before.st_mode, before.st_ino) == (after.st_mode, after.st_ino)
    assert sorted(path.name for path in Path().iterdir()) == ["place", "run"]


@pytest.mark.refusal
def test_a_busy_port_is_one_line(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(capsys, f"run={folder}", "live=true", f"port={port}")
    assert f"port={port} cannot be served: Address already in use" in said
    assert "port=0 takes a free one" in said


@pytest.mark.refusal
@pytest.mark.parametrize("live", ["live=true", "live=false"])
def test_a_damaged_run_is_one_line_that_names_the_file(folder, capsys, live):
    (folder / METRICS).write_bytes(b"\0" * 100)
    assert METRICS in refused(capsys, f"run={folder}", live, "port=0")
    assert not (folder / "report.html").exists()


def test_a_page_that_was_there_is_replaced_whole(folder):
    page = folder / "report.html"
    page.write_text("old")
    assert call(f"run={folder}") == 0
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    assert np.all([not p.name.endswith(".part") for p in folder.iterdir()])


def twice(folder: Path, second: str = "other") -> None:
    shutil.copytree(folder, folder.with_name(second))


def test_runs_below_a_folder_are_compared(folder, capsys):
    twice(folder)
    assert call("runs=.") == 0
    assert capsys.readouterr().out.strip() == "comparison.html"
    assert "2 runs in 1 group" in Path("comparison.html").read_text(encoding="utf-8")


def test_a_damaged_run_is_named_and_left_out(folder, capsys):
    twice(folder)
    (Path("other") / METRICS).write_bytes(b"nothing")
    assert call("runs=.") == 0
    said = capsys.readouterr()
    assert said.err.startswith("left out: other/metrics.h5 cannot be read")
    assert "1 run in 1 group" in Path("comparison.html").read_text(encoding="utf-8")


def test_nothing_but_damaged_runs_is_an_error(folder, capsys):
    (folder / METRICS).write_bytes(b"nothing")
    assert call("runs=.") == 1
    assert "runs must hold at least one run" in capsys.readouterr().err
    assert not Path("comparison.html").exists()
