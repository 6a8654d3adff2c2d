"""What the store costs: an epoch's row, a long run, a folder of a thousand runs.

python scripts/reliability/row_cost.py [--quick]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from page import arguments, report, table, verdict

import grokscope
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.layout import Column, Table
from grokscope.store.run_writer import FULL, LAYERS, METRICS

SCALARS, EIGENVALUES, N_LAYERS = 60, 100, 5
INTEGER = Column(dtype="<i8")
CLOCK = {"epoch": INTEGER, "step": INTEGER}
NAMES = [f"scalar_{i:02}" for i in range(SCALARS)]
ROOT = Table("", {"epoch": INTEGER, "global_step": INTEGER, **dict.fromkeys(NAMES, Column())})
SPECTRA = Table(
    "batch",
    {**CLOCK, "eigenvalues_top_k": Column((N_LAYERS, EIGENVALUES))},
    {"layers": [f"layer_{i}" for i in range(N_LAYERS)]},
)
LIMITS = {6_000: 0.05, 85_000: 0.1, 945_000: 0.5}  # bytes -> ms
SMALL = ROOT.row_bytes + SPECTRA.row_bytes


def factor(size: int) -> Table:
    """A gradient that makes the row of an epoch ``size`` bytes."""
    width = (size - SMALL - 24) // 4
    return Table("batch", {**CLOCK, "n_batches": INTEGER, "gradient": Column((1, width), "<f4")})


def one_by_one(folder: Path, size: int, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds of each epoch's row: through the store, and of the bytes alone in one ``pwrite``."""
    gradients = factor(size)
    writer = RunWriter(
        folder,
        {METRICS: [(ROOT, epochs)], LAYERS: [(SPECTRA, epochs)], FULL: [(gradients, epochs)]},
    )
    generator = np.random.default_rng(0)
    stored = generator.random((1, gradients.columns["gradient"].shape[1]), np.float32)
    spectra = generator.random((N_LAYERS, EIGENVALUES))
    scalars = dict(zip(NAMES, generator.random(SCALARS).tolist(), strict=True))
    plain = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT)
    data = bytes(size)
    ours, bare = [], []
    for epoch in range(epochs):
        begun = time.perf_counter()
        writer.append(METRICS, "", {"epoch": epoch, "global_step": epoch, **scalars})
        clock = {"epoch": epoch, "step": epoch}
        writer.append(LAYERS, "batch", {**clock, "eigenvalues_top_k": spectra})
        writer.append(FULL, "batch", {**clock, "n_batches": 1, "gradient": stored})
        middle = time.perf_counter()
        os.pwrite(plain, data, epoch * size)
        ours.append(middle - begun)
        bare.append(time.perf_counter() - middle)
    os.close(plain)
    writer.close()
    return ours, bare


def queued(folder: Path, size: int, epochs: int, waiting: int) -> list[float]:
    """Seconds an epoch when rows wait for each other, as the callback lets them."""
    gradients = factor(size)
    room = epochs * waiting
    writer = RunWriter(
        folder, {METRICS: [(ROOT, room)], LAYERS: [(SPECTRA, room)], FULL: [(gradients, room)]}
    )
    generator = np.random.default_rng(0)
    stored = generator.random((1, gradients.columns["gradient"].shape[1]), np.float32)
    spectra = generator.random((waiting, N_LAYERS, EIGENVALUES))
    scalars = {name: generator.random(waiting) for name in NAMES}
    seconds = []
    for block in range(epochs):
        at = np.arange(block * waiting, (block + 1) * waiting)
        begun = time.perf_counter()
        writer.extend(METRICS, "", {"epoch": at, "global_step": at, **scalars})
        clock = {"epoch": at, "step": at}
        writer.extend(LAYERS, "batch", {**clock, "eigenvalues_top_k": spectra})
        for epoch in at.tolist():
            row = {"epoch": epoch, "step": epoch, "n_batches": 1, "gradient": stored}
            writer.append(FULL, "batch", row)
        seconds.append((time.perf_counter() - begun) / waiting)
    writer.close()
    return seconds


def touch(file: Path, megabytes: int) -> None:
    """Use so much of the page cache once.

    A virtual machine asks its host for memory at first use, which takes 10 times as long as the
    copy, whoever writes.
    """
    block = bytes(2**20)
    with file.open("wb") as stream:
        for _ in range(megabytes):
            stream.write(block)
    file.unlink()


def row_costs(place: Path, quick: bool) -> str:
    rows = []
    touch(place / "memory", 1 if quick else 4096)
    for size, limit in LIMITS.items():
        epochs = 40 if quick else (2000 if size < 500_000 else 600)
        ours, bare = (
            1e3 * np.array(times[5:]) for times in one_by_one(place / f"one-{size}", size, epochs)
        )
        waiting = max(1, min(512, 2**24 // size))
        blocks = 3 if quick else max(5, min(50, 2000 // waiting))
        together = 1e3 * statistics.median(
            queued(place / f"many-{size}", size, blocks, waiting)[1:]
        )
        rows.append(
            [
                f"{size:,}",
                f"{np.median(ours):.3f} ({np.quantile(ours, 0.05):.3f} to "
                f"{np.quantile(ours, 0.95):.3f})",
                f"{np.median(bare):.3f}",
                f"{together:.3f} ({waiting})",
                f"{verdict(float(np.median(ours)), limit)}",
            ]
        )
        shutil.rmtree(place / f"one-{size}")
        shutil.rmtree(place / f"many-{size}")
    header = ["bytes an epoch", "ms, median (5 to 95 %)", "ms, the bytes alone"]
    return table([*header, "ms when rows wait (how many)", "limit, ms: median"], rows)


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = what()
    return time.perf_counter() - begun, result


def sizes(folder: Path) -> tuple[int, int]:
    """Length and disk space of a folder's files."""
    stats = [path.stat() for path in folder.iterdir()]
    return sum(s.st_size for s in stats), sum(512 * s.st_blocks for s in stats)


def long_run(folder: Path, epochs: int) -> str:
    """Spectra that move as those of a run do: smooth curves of full-precision numbers."""
    generator = np.random.default_rng(0)
    decay = np.exp(-np.linspace(0, 12, EIGENVALUES))
    block = 1000
    smooth = np.cumsum(1e-3 * generator.standard_normal((block, N_LAYERS, EIGENVALUES)), axis=0)
    spectra = decay * np.exp(smooth)
    walks = np.cumsum(1e-3 * generator.standard_normal((block, SCALARS)), axis=0)
    rows = [dict(zip(NAMES, walk, strict=True)) for walk in walks.tolist()]
    writer = RunWriter(folder, {METRICS: [(ROOT, epochs)], LAYERS: [(SPECTRA, epochs)]})
    written = 0.0
    for start in range(0, epochs, block):
        scale = 1 + start / epochs
        moved = list(spectra * scale)
        begun = time.perf_counter()
        for at, (scalars, values) in enumerate(zip(rows, moved, strict=True), start):
            writer.append(METRICS, "", {"epoch": at, "global_step": at, **scalars})
            row = {"epoch": at, "step": at, "eigenvalues_top_k": values}
            writer.append(LAYERS, "batch", row)
        written += time.perf_counter() - begun
    live, live_size = _readings(folder), sizes(folder)
    finalised, _ = timed(writer.finalise)
    final, final_size = _readings(folder), sizes(folder)
    raw = epochs * SMALL
    lines = [
        ["writing, s (ms an epoch)", f"{written:.2f} ({1e3 * written / epochs:.3f})", ""],
        ["finalising, s", "", f"{finalised:.2f}"],
        ["MB on disk (numbers alone)", f"{live_size[1] / 1e6:.1f} ({raw / 1e6:.1f})",
         f"{final_size[1] / 1e6:.1f}"],
    ]  # fmt: skip
    lines += [[name, f"{live[name]:.2f}", f"{final[name]:.2f}"] for name in live]
    return table([f"{epochs:,} epochs", "while it runs", "when it has ended"], lines)


def _readings(folder: Path) -> dict[str, float]:
    """Milliseconds to open a run and to read from it; the files lie in the cache."""

    def spread(what: Callable[[grokscope.Run], Any]) -> float:
        times = [timed(lambda: what(grokscope.Run.open(folder)))[0] for _ in range(7)]
        return 1e3 * statistics.median(times)

    epochs = grokscope.Run.open(folder).epochs("batch")
    middle = int(epochs[len(epochs) // 2])
    return {
        "ms to open and list what there is": spread(lambda run: len(run.metrics)),
        "ms to open and read one series": spread(lambda run: run.metrics["scalar_07"]),
        "ms to open and read one spectrum": spread(
            lambda run: run.spectrum("batch", middle, "layer_2")
        ),
    }


def many_runs(place: Path, count: int) -> tuple[str, float]:
    """Folders as runs leave them, half of them within sweeps."""
    first = place / "runs" / "quickstart" / "0"
    writer = RunWriter(first, {METRICS: [(ROOT, 10)], LAYERS: [(SPECTRA, 10)]})
    writer.append(METRICS, "", dict.fromkeys(NAMES, 1.0) | {"epoch": 0, "global_step": 0})
    writer.finalise()
    update_info(first, status="finished", name="quickstart", seed=0)
    (first / "config.yaml").write_text("name: quickstart\nseed: 0\n", encoding="utf-8")
    for name in ("train.log", "metrics.csv", "curves.png", "gop.png"):
        (first / name).write_text("x", encoding="utf-8")
    for name, files in (("checkpoints", 14), (".hydra", 3)):
        (first / name).mkdir()
        for i in range(files):
            (first / name / f"{i}.ckpt").write_text("x", encoding="utf-8")
    for i in range(1, count):
        half = f"quickstart/{i}" if i % 2 else f"../multiruns/quickstart/sweep/{i}"
        shutil.copytree(first, (place / "runs" / half).resolve())
    seconds, found = timed(lambda: grokscope.runs(place))
    assert len(found) == count
    again = [timed(lambda: grokscope.runs(place))[0] for _ in range(3)]
    told, _ = timed(lambda: [(run.name, run.status) for run in found])
    rows = [
        ["`grokscope.runs(folder)`, first time, s", f"{seconds:.3f}"],
        ["... again, median", f"{statistics.median(again):.3f}"],
        ["name and status of each, s", f"{told:.3f}"],
        ["limit, s", verdict(seconds, 1.0)],
    ]
    return table([f"{count:,} run folders", ""], rows), seconds


def main() -> None:
    options = arguments(__doc__).parse_args()
    texts = measure(options)
    report(options, "row_cost", "What the store costs", "\n\n".join(texts))


def measure(options: argparse.Namespace) -> list[str]:
    quick = options.quick
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        place = Path(name)
        costs = row_costs(place, quick)
        long = long_run(place / "long", 2_000 if quick else 100_000)
        shutil.rmtree(place / "long")
        many, _ = many_runs(place / "many", 40 if quick else 1_000)
    intro = (
        f"A row of an epoch: {SCALARS} scalars, {EIGENVALUES} eigenvalues of each of {N_LAYERS} "
        "layers, and a gradient for the rest, in three files. \"The bytes alone\" is one `pwrite` "
        "of as many zeros at the end of a plain file. Memory for the page cache was used once "
        "before: a virtual machine gets it from its host at first use, at 2.5 ms for 945 KB. "
        "The callback lets rows wait for each other; then scalars and spectra are written as "
        "blocks."
    )  # fmt: skip
    after = f"A long run of {SCALARS} scalars and {EIGENVALUES} eigenvalues of {N_LAYERS} layers:"
    return [intro, costs, after, long, many]


if __name__ == "__main__":
    main()
