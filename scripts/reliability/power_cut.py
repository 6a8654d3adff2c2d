"""Cuts the power of real file systems while a training writes to them; for root, by hand.

python scripts/reliability/power_cut.py [--quick] [--cuts N] [--epochs N] [--kinds ext4 xfs]

Needs loop devices, btrfs-progs and xfsprogs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the commands do

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
from aftermath import Aftermath
from findings import FAILURES, LINES, UNREADABLE, Reference
from images import Disk, make, mounted
from launch import script_here, start, wait
from page import arguments, report, table
from process import warm

RUNS = "logs/runs/quickstart"
PATIENCE_SECONDS = 600.0
SETTLING_SECONDS = 1.0  # for a sync to reach the disk, beyond storage.sync_seconds


def command(epochs: int) -> list[str]:
    return ["experiment=quickstart", "threads=1", "trainer=cpu", f"trainer.max_epochs={epochs}"]


class Watch:
    """Notes when a running run's rows appeared, ten times a second."""

    def __init__(self, root: Path) -> None:
        self._root, self.seen = root, [(time.monotonic(), 0)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.1):
            for path in self._root.glob(f"{RUNS}/*/metrics.h5"):
                now = time.monotonic()
                with h5py.File(path, "r", locking=False) as file:
                    self.seen.append((now, int(file["index/rows"][0])))

    def rows_at(self, moment: float) -> int:
        return max(rows for then, rows in self.seen if then <= max(moment, self.seen[0][0]))

    def seconds_lost(self, rows: int, cut: float) -> float:
        """Between the moment when the first row that is lost appeared, and the cut."""
        later = [then for then, count in self.seen if count > rows and then <= cut]
        return cut - later[0] if later else 0.0


class Cuts:
    """The images of one disk at several moments of a run."""

    def __init__(self, disk: Disk, options: argparse.Namespace) -> None:
        self.disk, self.options = disk, options
        self.random = random.Random(options.seed)
        self.images: list[tuple[float, Path]] = []
        self.found: Counter[str] = Counter()
        self.lost: list[float] = []

    def record(self, place: Path) -> Reference:
        """Train to the end, and cut now and then."""
        output = self.disk.folder / "output"
        words = command(self.options.epochs)
        pid = start(lambda: script_here("train", words, place), output)
        moments = sorted(
            self.random.uniform(2, self.options.seconds) for _ in range(self.options.cuts)
        )
        begun = time.monotonic()
        with Watch(place) as self.watch:
            for number, moment in enumerate(moments):
                time.sleep(max(0.0, begun + moment - time.monotonic()))
                self.images.append((time.monotonic(), self.disk.cut(f"cut-{number}")))
            if code := wait(pid, PATIENCE_SECONDS):
                raise RuntimeError(f"exit code {code}: {output.read_text()[-2000:]}")
        if (seconds := time.monotonic() - begun) < self.options.seconds:
            raise RuntimeError(f"the run ended after {seconds:.0f} s: more --epochs are needed.")
        (run,) = (place / RUNS).iterdir()
        return Reference.of(run)

    def judge(self, reference: Reference) -> None:
        for number, (moment, image) in enumerate(self.images):
            with self.disk.after(image) as place:
                self._judge(place, number, moment, reference)
            image.unlink()

    def _judge(self, place: Path, number: int, moment: float, reference: Reference) -> None:
        sync = self.options.sync_seconds + SETTLING_SECONDS
        required = range(self.watch.rows_at(moment - sync))
        after = Aftermath(
            place, place / RUNS / reference.folder.name, reference, {"": required}, number
        )
        after.examine()
        rows = len(after.values.get("epoch", ()))
        self.lost.append(self.watch.seconds_lost(rows, moment))
        after.go_on(command(self.options.epochs))
        self.found["cuts"] += 1
        self.found += after.found.counts
        self.found["unreadable"] += after.found.any(UNREADABLE)
        self.found["unresumable"] += after.found.counts["resume fails"] > 0
        line = f"{self.disk.kind}, cut {number}: {rows} rows, {self.lost[-1]:.1f} s lost"
        print(line, *after.found.notes, sep="\n  ", file=sys.stderr)


def measure(kind: str, outer: Path, options: argparse.Namespace) -> Cuts:
    folder = outer / kind
    folder.mkdir()
    disk = Disk(kind, folder, 2**30)
    with disk.mounted() as place:
        cuts = Cuts(disk, options)
        cuts.judge(cuts.record(place))
    return cuts


@contextmanager
def reflinking(folder: Path) -> Iterator[Path]:
    """A folder on a btrfs."""
    make("btrfs", folder / "outer.img", 12 * 2**30)
    with mounted(folder / "outer.img", folder / "outer") as outer:
        yield outer


def text_of(found: dict[str, Cuts]) -> str:
    lines = {
        "cuts": lambda c: f"{c.found['cuts']}",
        "s of rows lost, most": lambda c: f"{max(c.lost):.1f}",
        "runs that cannot be read": lambda c: f"{c.found['unreadable']}",
        "runs that cannot go on": lambda c: f"{c.found['unresumable']}",
        **{words: lambda c, what=what: f"{c.found[what]:,}" for what, words in LINES.items()},
    }
    rows = [[name, *(show(cuts) for cuts in found.values())] for name, show in lines.items()]
    return table(["", *found], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cuts", type=int, default=6, help="of each file system")
    parser.add_argument("--seconds", type=float, default=40.0, help="in which they happen")
    parser.add_argument("--epochs", type=int, default=6000, help="more than the seconds take")
    parser.add_argument("--kinds", nargs="+", default=["ext4", "xfs"])
    parser.add_argument("--sync-seconds", type=float, default=5.0, help="storage.sync_seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("power_cut.py mounts file systems: it must run as root.")
    warm()
    with (
        tempfile.TemporaryDirectory(prefix="power-cut", dir=options.dir) as name,
        reflinking(Path(name)) as outer,
    ):
        found = {kind: measure(kind, outer, options) for kind in options.kinds}
    intro = (
        f"A run of {options.epochs:,} epochs writes to a file system in an image file; "
        f"{options.cuts} times in {options.seconds:.0f} s the image is copied at one moment "
        "(`cp --reflink`), which takes what had reached the disk. Each copy is mounted, its "
        "journal replayed; the run is read, and brought to its end."
    )
    report(options, "power_cut", "Power cuts of real file systems", f"{intro}\n\n{text_of(found)}")
    failed = sorted({what for c in found.values() for what in FAILURES if c.found[what]})
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
