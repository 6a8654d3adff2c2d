"""A training process that notes which rows it was told are safe, and may be killed anywhere.

python scripts/reliability/process.py '{"acknowledged": "acks.txt"}' experiment=quickstart ...

runs ``src/train.py`` with those overrides. The notes are one ``write`` each to a file opened
with O_APPEND, after the store's own call has returned: they outlive SIGKILL.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grokscope.store.writer import LiveFile

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Notes:
    """What the process notes and when it kills itself.

    Attributes:
        acknowledged: File for a line a write: file, table, epochs. It appears when everything is
            imported and training is about to begin.
        times: File for the seconds of each write, at the end.
        kill_at: The how-manieth ``pwrite`` or ``replace`` does not return.
        kill_call: Which of the two.
        share: Of the bytes of that ``pwrite`` that are still written; for ``replace``, it is done
            if this is at least 0.5.
    """

    acknowledged: str
    times: str = ""
    kill_at: int = 0
    kill_call: str = ""
    share: float = 0.0


def train_here(notes: Notes, overrides: list[str]) -> int:
    """``python src/train.py *overrides`` in this process; its exit code."""
    from grokscope.app import training

    training.save_figures = lambda run: None  # two seconds after the run has ended
    taker = NoteTaker(notes)
    code = script_here("train", overrides)
    taker.finish()
    return code


def script_here(name: str, overrides: Sequence[str]) -> int:
    """``python src/<name>.py *overrides`` in this process; its exit code."""
    path = ROOT / "src" / f"{name}.py"
    sys.argv = [str(path), *overrides]
    code: Any = 0
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else int(code is not None)


class NoteTaker:
    """Stands between a training process and the store, and between it and the kernel."""

    def __init__(self, notes: Notes) -> None:
        from grokscope.store import run_writer
        from grokscope.store.writer import LiveFile

        self.notes = notes
        self.fd = os.open(notes.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.counts = {"pwrite": 0, "replace": 0}
        self.times: list[tuple[str, str, int, float]] = []
        self._append, self._extend = LiveFile.append, LiveFile.extend
        self._pwrite, self._replace = os.pwrite, os.replace
        self._open_live, self._copies = run_writer.open_live, False
        run_writer.open_live = lambda *file: self.open_live(*file)
        LiveFile.append = lambda *write: self.append(*write)  # type: ignore[method-assign]
        LiveFile.extend = lambda *write: self.extend(*write)  # type: ignore[method-assign]
        os.replace = self.replace  # type: ignore[assignment]
        if notes.kill_call or not notes.times:
            os.pwrite = self.pwrite  # type: ignore[assignment]

    def append(self, live: LiveFile, table: str, row: Mapping[str, Any]) -> None:
        begun = time.perf_counter()
        self._append(live, table, row)
        self._note(live, table, [row["epoch"]], begun)

    def extend(self, live: LiveFile, table: str, rows: Mapping[str, Any]) -> None:
        begun = time.perf_counter()
        self._extend(live, table, rows)
        self._note(live, table, rows["epoch"], begun)

    def open_live(self, *file: Any) -> LiveFile:
        """Rows of an older file that are copied are not noted again: they are not in place yet."""
        self._copies = True
        try:
            return self._open_live(*file)
        finally:
            self._copies = False

    def _note(self, live: LiveFile, table: str, epochs: Any, begun: float) -> None:
        seconds = time.perf_counter() - begun
        if self._copies:
            return
        epochs = [int(epoch) for epoch in epochs]
        text = f"{live.path.name}\t{table}\t{' '.join(map(str, epochs))}\n"
        os.write(self.fd, text.encode())
        if self.notes.times:
            self.times.append((live.path.name, table, len(epochs), seconds))

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        if self._last("pwrite"):
            self._pwrite(file, data[: int(self.notes.share * len(data))], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return self._pwrite(file, data, offset)

    def replace(self, source: Any, target: Any, **options: Any) -> None:
        if self._last("replace"):
            if self.notes.share >= 0.5:
                self._replace(source, target, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        self._replace(source, target, **options)

    def _last(self, call: str) -> bool:
        self.counts[call] += 1
        return call == self.notes.kill_call and self.counts[call] == self.notes.kill_at

    def finish(self) -> None:
        """Say how many calls there were, and how long the writes took."""
        os.write(self.fd, f"# {json.dumps(self.counts)}\n".encode())
        if self.notes.times:
            Path(self.notes.times).write_text(json.dumps(self.times), encoding="utf-8")


class Process:
    """A training process of its own: a fork of this one, or a fresh interpreter.

    A fork has torch and Lightning imported, which takes seconds otherwise; it composes its
    configuration, trains and dies like any other.
    """

    def __init__(self, notes: Notes, overrides: list[str], fresh: bool = False) -> None:
        self.notes = notes
        self.output = Path(notes.acknowledged).with_suffix(".out")
        Path(notes.acknowledged).unlink(missing_ok=True)
        self.pid = self._fresh(overrides) if fresh else self._fork(overrides)
        self.code: int | None = None

    def _fresh(self, overrides: list[str]) -> int:
        command = [sys.executable, __file__, json.dumps(asdict(self.notes)), *overrides]
        with self.output.open("w") as out:
            self._popen = subprocess.Popen(command, stdout=out, stderr=out)
            return self._popen.pid

    def _fork(self, overrides: list[str]) -> int:
        sys.stdout.flush()
        gc.collect()
        if pid := os.fork():
            return pid
        code = 70
        try:
            out = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = train_here(self.notes, overrides)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def alive(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def wait_for_begin(self, seconds: float = 120.0) -> None:
        """Until everything is imported."""
        stop = time.monotonic() + seconds
        while not Path(self.notes.acknowledged).exists() and time.monotonic() < stop:
            if not self.alive():
                return
            time.sleep(0.002)

    def kill_after(self, seconds: float) -> None:
        """SIGKILL, unless it ends before."""
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and self.alive():
            time.sleep(min(0.002, max(0.0, stop - time.monotonic())))
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """The exit code; -9 for SIGKILL."""
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def succeed(self) -> None:
        """Wait for an end without an error.

        Raises:
            RuntimeError: With what the process printed.
        """
        if self.wait() != 0:
            raise RuntimeError(f"exit code {self.code}: {self.output.read_text()[-2000:]}")

    def counts(self) -> dict[str, int]:
        """How often a process that ended well called ``pwrite`` and ``replace``."""
        return json.loads(Path(self.notes.acknowledged).read_text().splitlines()[-1][2:])

    def acknowledged(self) -> dict[tuple[str, str], list[int]]:
        """(File, table) -> epochs whose writing had returned."""
        return acknowledged(Path(self.notes.acknowledged))


def acknowledged(path: Path) -> dict[tuple[str, str], list[int]]:
    """(File, table) -> epochs, from a process's notes."""
    found: dict[tuple[str, str], list[int]] = {}
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n") and not line.startswith("#"):
            name, table, epochs = line.rstrip("\n").split("\t")
            found.setdefault((name, table), []).extend(map(int, epochs.split()))
    return found


def warm() -> None:
    """Import what a training process needs, so that forks have it."""
    import hydra  # noqa: F401
    import lightning  # noqa: F401
    import torch

    import grokscope.app.build
    import grokscope.app.hooks
    import grokscope.app.training
    import grokscope.callbacks
    import grokscope.data
    import grokscope.models
    import grokscope.nets  # noqa: F401
    from grokscope.measures.slot_squares import slot_squares

    torch.set_num_threads(1)
    gradient = torch.zeros(2)
    parts: Any = SimpleNamespace(slots=[SimpleNamespace(size=2)])
    slot_squares(gradient, gradient, parts)  # Numba loads what it has compiled
    gc.collect()
    gc.freeze()  # forks need not look through all of torch again


if __name__ == "__main__":
    raise SystemExit(train_here(Notes(**json.loads(sys.argv[1])), sys.argv[2:]))
