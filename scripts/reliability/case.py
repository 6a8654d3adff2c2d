"""One training process, killed at a random place, looked at, and brought to its end."""

from __future__ import annotations

import csv
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from process import Notes, Process
from rows import (
    Rows,
    before,
    different,
    epochs_of,
    everything,
    missing,
    plain_rows,
    together,
    twice,
)

from grokscope import Run

EPOCHS = 300
LAST = "ckpt_path=last"
TINY = (
    "experiment=quickstart",
    "data.modulus=13",
    "net.widths=[26,64,13]",
    "net.init_std.n_hidden=64",
    "threads=1",
    "trainer=cpu",
    f"trainer.max_epochs={EPOCHS}",
    "callbacks.checkpoints.last_every_seconds=0.3",
)
CONFIGURATIONS = {
    "default": (),
    "factor-heavy": ("schedule.factor=every 1", "data.batch_size=20"),
    "several schedules": (
        "measures=full",
        "measures.probe=30",
        "schedule.batch=adaptive log 20 to every 2",
        "schedule.weight=every 7",
        "schedule.trajectory=log 50",
        "schedule.sample=adaptive log 10 to log 100",
        "schedule.input=log 10",
        "schedule.factor=adaptive",
    ),
}


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run."""

    rows: Rows
    everything: dict[str, bytes]
    state: dict[str, Any]
    csv: list[dict[str, str]]
    seconds: dict[bool, float]
    counts: dict[str, int]


def overrides_of(configuration: str, log_dir: Path) -> list[str]:
    return [*TINY, *CONFIGURATIONS[configuration], f"paths.log_dir={log_dir}"]


def run_folder(log_dir: Path) -> Path | None:
    """The newest run below; None if there is none yet."""
    found = [path.parent for path in log_dir.glob("runs/*/*/run.json")]
    return max(found, key=lambda path: path.stat().st_ctime_ns, default=None)


def uninterrupted(configuration: str, folder: Path, fresh: bool) -> Reference:
    folder.mkdir(parents=True)
    seconds = {}
    for kind in {False, fresh}:
        log_dir = folder / f"fresh-{kind}"
        notes = Notes(str(folder / "acks"))
        process = Process(notes, overrides_of(configuration, log_dir), kind)
        process.wait_for_begin()
        begun = time.monotonic()
        process.succeed()
        seconds[kind] = time.monotonic() - begun
    run = run_folder(folder / "fresh-False")
    assert run is not None
    rows = plain_rows(run)
    return Reference(
        rows, everything(run), final_state(run), csv_rows(run), seconds, process.counts()
    )


def final_state(run: Path) -> dict[str, Any]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: content[name] for name in ("state_dict", "optimizer_states", "rng")}


def csv_rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a: Any, b: Any) -> bool:
    """Bit-equal, tensors included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


class Case:
    """One training process, killed once or twice, then resumed to its end.

    Args:
        seed: Of everything that is drawn.
        configuration: A name from ``CONFIGURATIONS``.
        reference: Its uninterrupted run.
        folder: An empty place.
        fresh: Whether its processes are fresh interpreters.
        resume: Whether it goes on, and perhaps is killed once more.
    """

    def __init__(
        self,
        seed: int,
        configuration: str,
        reference: Reference,
        folder: Path,
        fresh: bool,
        resume: bool,
    ) -> None:
        self.random = random.Random(seed)
        self.configuration, self.reference = configuration, reference
        self.folder, self.fresh, self.resume = folder, fresh, resume
        self.log_dir = folder / "logs"
        self.found: Counter[str] = Counter()
        self.notes: list[str] = []
        self.required: dict[tuple[str, str], list[int]] = {}

    def play(self) -> Counter[str]:
        self.folder.mkdir(parents=True)
        while not self._kill([]):  # it ended before its kill came
            shutil.rmtree(self.log_dir, ignore_errors=True)
        self._judge()
        if not self.resume:
            return self.found
        passes = self._passes_kept()
        if self.random.random() < 0.3 and not self._ended() and passes is not None:
            self.required = before(self.present, passes)
            if self._kill([LAST]):
                self.found["killed while resuming"] += 1
                self._judge()
        self._go_on()
        return self.found

    def _kill(self, extra: list[str]) -> bool:
        """Start a process and kill it; whether that came in time."""
        draw = self.random
        way = draw.choices(["moment", "pwrite", "replace"], [50, 35, 15])[0]
        notes = Notes(str(self.folder / "acks"))
        if way != "moment":
            number = draw.randint(1, self.reference.counts[way])
            notes = Notes(notes.acknowledged, "", number, way, draw.random())
        process = self._start(notes, extra)
        if way == "moment":
            process.wait_for_begin()
            process.kill_after(draw.uniform(0, self.reference.seconds[self.fresh]))
        process.wait()
        if process.code not in (0, -9):
            raise RuntimeError(f"exit code {process.code}: {process.output.read_text()[-1500:]}")
        if process.code == -9:
            self.found["kills"] += 1
            self.found[f"by {way}"] += 1
            acknowledged = process.acknowledged()
            self.found["acknowledged"] += sum(map(len, acknowledged.values()))
            self.required = together(self.required, acknowledged)
        return process.code == -9

    def _fail(self, what: str, detail: object, count: int = 1) -> None:
        self.found[what] += count
        self.notes.append(f"{self.configuration}: {what}: {detail}")

    def _judge(self) -> None:
        """Look at the folder of a process that was killed."""
        self.present: dict[tuple[str, str], list[int]] = {}
        run = run_folder(self.log_dir)
        if run is None:
            self.found["before it had a folder"] += 1
        else:
            self._judge_files(run)
            self._judge_run(run)
        if lost := missing(self.present, self.required):
            self._fail("acknowledged, lost", self.required, lost)

    def _judge_files(self, run: Path) -> None:
        try:
            rows = plain_rows(run)
        except Exception as error:
            self._fail("does not open", repr(error))
            return
        self.present = epochs_of(rows)
        self.found["files"] += len({name for name, _ in rows})
        self.found["rows"] += sum(map(len, self.present.values()))
        if wrong := different(rows, self.reference.rows):
            self._fail("rows that differ", run, wrong)
        if again := twice(rows):
            self._fail("rows twice", run, again)

    def _judge_run(self, folder: Path) -> None:
        """Everything again, as a user reads it."""
        try:
            run = Run.open(folder)
            if run.status not in ("killed", "finished"):
                raise ValueError(f"the status is {run.status!r}")
            metrics = {name: run.metrics[name] for name in run.metrics}
            for (file, name), epochs in self.required.items():
                prefix = {
                    "metrics.h5": f"{name}/" if name else "",
                    "gop_layers.h5": f"gop/{name}/layers/",
                }.get(file)
                seen = run.epochs("factor") if prefix is None else metrics[f"{prefix}epoch"]
                if gone := set(epochs) - set(seen.tolist()):
                    raise ValueError(f"{file} {name}: epochs {sorted(gone)[:5]} are not given.")
                if not epochs:
                    continue
                if prefix is None:
                    run.gop(epochs[-1])[0, :3]
                elif file == "gop_layers.h5":
                    run.spectrum(name, epochs[-1])
                    run.spectrum(name, epochs[-1], run.layer_names(name)[0])
        except Exception as error:
            self._fail("Run.open fails", repr(error))

    def _passes_kept(self) -> int | None:
        """Passes done where ``ckpt_path=last`` goes on; None where it cannot."""
        run = run_folder(self.log_dir)
        folder = run / "checkpoints" if run else self.folder / "none"
        if (folder / "last.ckpt").exists():
            return _passes(folder / "last.ckpt")
        return max(map(_passes, folder.glob("epoch_*.ckpt")), default=None)

    def _ended(self) -> bool:
        """Whether there is nothing left to do."""
        run = run_folder(self.log_dir)
        return run is not None and Run.open(run).status == "finished"

    def _go_on(self) -> None:
        """To the end, and compare with the run that was not killed."""
        if self._ended():
            self.found["had ended"] += 1
        else:
            begins = self._passes_kept() is None
            if begins:
                self.found["began anew"] += 1
                shutil.rmtree(self.log_dir, ignore_errors=True)
            self._start(Notes(str(self.folder / "acks")), [] if begins else [LAST]).succeed()
        run = run_folder(self.log_dir)
        assert run is not None
        self.found["ended"] += 1
        self._compare(run)

    def _start(self, notes: Notes, extra: list[str]) -> Process:
        overrides = overrides_of(self.configuration, self.log_dir) + extra
        return Process(notes, overrides, self.fresh)

    def _compare(self, run: Path) -> None:
        reference = self.reference
        ours, theirs = everything(run), reference.everything
        unlike = [n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)]
        if unlike:
            self._fail("rows unlike", f"{len(unlike)} datasets, {sorted(unlike)[:4]}")
        if not equal(final_state(run), reference.state):
            self._fail("weights unlike", run)
        if csv_rows(run) != reference.csv:
            ours_csv, all_csv = len(csv_rows(run)), len(reference.csv)
            self._fail("metrics.csv unlike", f"{ours_csv} rows of {all_csv}")
        status = Run.open(run).status
        if status != "finished":
            self._fail("status", status)
        drafts = [p.name for p in run.rglob("*") if p.name.endswith((".live", ".final", ".part"))]
        if drafts:
            self._fail("drafts left", drafts)


def _passes(path: Path) -> int:
    content = torch.load(path, map_location="cpu", weights_only=True)
    return int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def play(case: Case) -> tuple[str, Counter[str], list[str]]:
    try:
        case.play()
    except Exception as error:
        case._fail("resume fails", f"in {case.folder}: {error!r}")
    if not case.notes:
        shutil.rmtree(case.folder)
    return case.configuration, case.found, case.notes
