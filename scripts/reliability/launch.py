"""Runs a script of ``src/`` in a fork of this process, which has torch imported already."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        code: Its exit code; negative for a signal, -9 for one that did not end in time.
        output: What it printed.
        started_at: Passes done in the checkpoint that it went on from; -1 if from none, None if it
            did not get there.
    """

    code: int
    output: str
    started_at: int | None


def run_script(
    name: str,
    overrides: Sequence[str],
    folder: Path,
    before: Callable[[], None] | None = None,
) -> Outcome:
    """``python src/<name>.py <overrides>`` with ``folder`` as working directory.

    Args:
        name: Of the script.
        overrides: Its arguments.
        folder: Where it runs; its output is noted beside it.
        before: Called in the forked process first.
    """
    notes = folder.with_name(f"{folder.name}.notes")
    output = folder.with_name(f"{folder.name}.out")
    notes.unlink(missing_ok=True)
    pid = start(lambda: script_here(name, overrides, folder, notes, before), output)
    code = wait(pid, PATIENCE_SECONDS)
    started = json.loads(notes.read_text()) if notes.exists() else None
    return Outcome(code, output.read_text(errors="replace"), started)


def start(work: Callable[[], int], output: Path) -> int:
    """Call ``work`` in a forked process that ends with its result; the process's number."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int:
    """The exit code of a forked process, which is killed after so many seconds."""
    stop = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > stop:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def script_here(
    name: str,
    overrides: Sequence[str],
    folder: Path,
    notes: Path | None = None,
    before: Callable[[], None] | None = None,
) -> int:
    """``python src/<name>.py <overrides>`` in this process; its exit code."""
    from grokscope.app import training

    training.save_figures = lambda run: None  # two seconds after the run has ended
    os.chdir(folder)
    if notes is not None:
        _note_start(notes)
    path = ROOT / "src" / f"{name}.py"
    sys.argv = [str(path), *overrides]
    if before is not None:
        before()
    code: Any = 0
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else int(code is not None)


def _note_start(notes: Path) -> None:
    """Let training say from which checkpoint it begins."""
    import lightning

    fit = lightning.Trainer.fit

    def noted(trainer: Any, *given: Any, **named: Any) -> Any:
        path = named.get("ckpt_path")
        notes.write_text(json.dumps(-1 if path is None else passes_of(Path(path))))
        return fit(trainer, *given, **named)

    lightning.Trainer.fit = noted  # type: ignore[method-assign]


def passes_of(path: Path) -> int:
    """Passes that a checkpoint's run had done."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    return int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
