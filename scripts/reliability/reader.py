"""A reader that follows a running run: whether it fails, and whether the writer notices.

python scripts/reliability/reader.py [--quick] [--reads N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from case import CONFIGURATIONS, TINY, run_folder
from numpy.typing import NDArray
from page import arguments, report, table
from process import Notes, Process, warm

from grokscope import Run

PAUSE = 0.02  # between two reads
Times = dict[str, list[float]]


class Reader:
    """Reads everything a notebook would, over and over, and checks that it fits together."""

    def __init__(self) -> None:
        self.reads, self.failures = 0, []
        self.seconds: list[float] = []
        self._seen: NDArray = np.empty(0)

    def begin_run(self) -> None:
        self._seen = np.empty(0)

    def read(self, folder: Path) -> None:
        begun = time.perf_counter()
        self.reads += 1
        try:
            self._read(Run.open(folder))
        except Exception as error:
            self.failures.append(repr(error))
        self.seconds.append(time.perf_counter() - begun)

    def _read(self, run: Run) -> None:
        metrics = run.metrics
        arrays = {name: metrics[name] for name in metrics}
        lengths: dict[str, set[int]] = {}
        for name, array in arrays.items():
            lengths.setdefault(name.rpartition("/")[0], set()).add(len(array))
        uneven = {name: sorted(found) for name, found in lengths.items() if len(found) > 1}
        _check(not uneven, f"arrays of one table have lengths {uneven}")
        for name, array in arrays.items():
            if name.rpartition("/")[2] == "epoch":
                _check(bool((np.diff(array) > 0).all()), f"{name} does not ascend")
        loss = arrays["train_loss"]
        _check(len(loss) >= len(self._seen), "rows have gone")
        _check(loss[: len(self._seen)].tobytes() == self._seen.tobytes(), "rows have changed")
        self._seen = loss
        if len(epochs := run.epochs("batch")):
            spectrum = run.spectrum("batch", int(epochs[-1]))
            _check(bool(np.isfinite(spectrum).all() and len(spectrum)), "no spectrum")
        if len(epochs := run.epochs("factor")):
            block = run.gop(int(epochs[-1]))[:5, :5]
            _check(bool((np.diag(block) >= 0).all()), "no matrix")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def follow(place: Path, epochs: int, reader: Reader | None) -> tuple[float, Times]:
    """One run, read or not: its seconds, and the seconds a row by file and table."""
    log_dir = place / "logs"
    shutil.rmtree(log_dir, ignore_errors=True)
    overrides = [
        *TINY,
        *CONFIGURATIONS["factor-heavy"],
        f"trainer.max_epochs={epochs}",
        f"paths.log_dir={log_dir}",
    ]
    notes = Notes(str(place / "acks"), times=str(place / "times"))
    process = Process(notes, overrides)
    process.wait_for_begin()
    begun = time.perf_counter()
    if reader:
        reader.begin_run()
        while process.alive():
            folder = run_folder(log_dir)
            if folder and (folder / "metrics.h5").exists() and (folder / "gop_full.h5").exists():
                reader.read(folder)
            time.sleep(PAUSE)
    process.succeed()
    seconds = time.perf_counter() - begun
    return seconds, _by_table(json.loads(Path(notes.times).read_text()))


def _by_table(times: Iterable[tuple[str, str, int, float]]) -> Times:
    found: Times = {}
    for file, name, rows, seconds in times:
        found.setdefault(f"{file} {name or 'top level'}", []).append(seconds / rows)
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--reads", type=int, help="default: 400, 20 if quick")
    parser.add_argument("--epochs", type=int, help="default: 4000, 300 if quick")
    options = parser.parse_args()
    options.reads = options.reads or (20 if options.quick else 400)
    options.epochs = options.epochs or (300 if options.quick else 4000)
    reader, text = measure(options)
    report(options, "reader", "A reader on a running run", text)
    if reader.failures or reader.reads < options.reads:
        raise SystemExit(f"failed: {Counter(reader.failures)}, {reader.reads} reads")


def measure(options: argparse.Namespace) -> tuple[Reader, str]:
    warm()
    reader = Reader()
    alone: Times = {}
    read: Times = {}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        while reader.reads < options.reads or len(seconds[True]) < (1 if options.quick else 3):
            for kind, times in ((False, alone), (True, read)):
                took, found = follow(Path(name), options.epochs, reader if kind else None)
                seconds[kind].append(took)
                for where, values in found.items():
                    times.setdefault(where, []).extend(values)
    rows = [["reads", "", f"{reader.reads}", ""], ["failures", "", f"{len(reader.failures)}", ""]]
    rows.append(["s a read, median", "", f"{statistics.median(reader.seconds):.3f}", ""])
    rows.append(_compared("s a run, median", seconds[False], seconds[True], 1.0))
    for where in sorted(alone):
        rows.append(_compared(f"µs a row, median: {where}", alone[where], read[where], 1e6))
    intro = (
        f"A run of {options.epochs:,} epochs in one process (a row with its gradients at every "
        f"epoch); another opens it every {1e3 * PAUSE:.0f} ms and reads all metrics, a spectrum "
        "and a block of the matrix. It checks that arrays of a table are equally long, epochs "
        "ascend and no earlier row has changed. Runs with and without the reader in turn, "
        f"{len(seconds[True])} of each."
    )
    text = table(["", "alone", "with the reader", "ratio"], rows)
    return reader, f"{intro}\n\n{text}"


def _compared(what: str, alone: list[float], read: list[float], unit: float) -> list[str]:
    a, b = (unit * statistics.median(values) for values in (alone, read))
    return [what, f"{a:.3g}", f"{b:.3g}", f"{b / a:.2f}"]


if __name__ == "__main__":
    main()
