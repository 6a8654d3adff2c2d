"""Output that cannot be written ends no command."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grokscope.app import output

ROOT = Path(__file__).parents[2]
TINY = ("experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "threads=1", "report=false")
SETTINGS = (*TINY, "trainer.max_epochs=30", "callbacks.progress.line_seconds=1e-9")


def broken(kind: str) -> int:
    """A descriptor of a pipe that nobody reads, or of a full disk."""
    if kind == "full":
        return os.open("/dev/full", os.O_WRONLY)
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("kind", ["pipe", "full"])
def test_lost_output_is_logged_once(kind, caplog, monkeypatch, capsys):
    with os.fdopen(broken(kind), "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        output.keep_going_without_output()
        assert sys.stdout is not stream
        with caplog.at_level(logging.INFO, output.__name__):
            for _ in range(3):
                print("a line", flush=True)
    assert caplog.text.count("<stdout> cannot be written") == 1
    assert capsys.readouterr().err.count("going on without it") == (kind == "full")


def test_letters_that_the_stream_has_not_are_written_otherwise(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        output.keep_going_without_output()
        print("\u03b1 \udcff", flush=True)
    assert (tmp_path / "out").read_text() == "\\u03b1 \\udcff\n"


def test_a_stream_of_someone_else_stays(capsys):
    before = sys.stdout
    output.keep_going_without_output()
    assert sys.stdout is before


def _train(folder: Path, redirection: str) -> subprocess.CompletedProcess:
    """Train in a shell whose standard output leads nowhere."""
    command = f'exec "$0" {ROOT}/src/train.py {" ".join(SETTINGS)} {redirection}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "redirection", ["> >(head -1 >/dev/null)", ">/dev/full", "0<&- 1>&- 2>&-"]
)
def test_a_run_whose_output_is_lost_finishes(tmp_path, redirection):
    done = _train(tmp_path, redirection)
    assert done.returncode == 0, done.stderr
    (info,) = tmp_path.rglob("run.json")
    facts = json.loads(info.read_text())
    assert (facts["status"], facts["error"]) == ("finished", None)
    log = (info.parent / "train.log").read_text()
    assert ("<stdout> cannot be written" in log) == ("&-" not in redirection)
