"""Damages files of real runs in every way, and looks at what their readers do.

python scripts/reliability/fuzz.py [--quick] [--cases N] [--seed N] [--case KIND:SEED]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gc
import gzip
import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from case import TINY, run_folder
from damage import Victim, ways
from page import arguments, report, table
from process import Notes, Process, warm
from visit import refusals

SECONDS = 5.0
MEMORY = 2**30
SMALL = (
    "measures=full",
    "measures.probe=10",
    "data.modulus=5",
    "net.widths=[10,8,5]",
    "net.init_std.n_hidden=8",
    "trainer.max_epochs=40",
    "schedule.factor=every 4",
)
KINDS = (
    "metrics.h5",
    "gop_layers.h5",
    "gop_full.h5",
    "checkpoints/epoch_10.ckpt",
    "config.yaml",
    "run.json",
    "IDX images",
)
OUTCOMES = ("read", "refused", "other errors", "crashes", "hangs", "memory", "payloads run")
FAILURES = OUTCOMES[2:]


@dataclass
class Tally:
    """What happened to the files of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    megabytes: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: str, megabytes: float, seconds: float) -> None:
        self.outcomes[outcome] += 1
        self.megabytes = max(self.megabytes, megabytes)
        self.seconds = max(self.seconds, seconds)


class Fuzz:
    """Whole files in a folder, and the cases made of them.

    Args:
        place: An empty folder.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.canary = place, place / "canary"
        warm()
        self.runs = _two_runs(place / "logs")
        self.data = _idx_files(place)
        self.victim = cache(self._victim)
        gc.freeze()  # else each fork copies all pages
        self.idle = 0.0
        self.idle = self._watch(_fork(lambda: None, place / "said"))[1]

    def _victim(self, kind: str, second: bool) -> Victim:
        files = self.data if kind.startswith("IDX") else [run / kind for run in self.runs]
        one, other = (path.read_bytes() for path in files)
        return Victim(*((other, one) if second else (one, other)), self.canary)

    def case(self, kind: str, seed: int) -> tuple[str, float, float, str]:
        """Outcome, megabytes, seconds, and the way it was damaged with what was found."""
        draw = random.Random(f"{kind} {seed}")
        second = draw.random() < 0.5
        way = draw.choice(ways(kind))
        content = way(draw, self.victim(kind, second))
        path = self._folder(kind, second, content)
        outcome, megabytes, seconds = self._look(path, kind)
        said = (self.place / "said").read_text(errors="replace")[-600:]
        if self.canary.exists():
            self.canary.unlink()
            outcome = "payloads run"
        return outcome, megabytes, seconds, f"{way.__name__}: {said}"

    def _folder(self, kind: str, second: bool, content: bytes) -> Path:
        """The damaged file among links to the other files of its run."""
        folder = self.place / "runs" / "case"
        shutil.rmtree(folder, ignore_errors=True)
        path = folder / kind
        if kind.startswith("IDX"):
            folder.mkdir(parents=True)
        else:
            shutil.copytree(self.runs[second], folder, copy_function=os.link)
            path.unlink()
        path.write_bytes(content)
        return path

    def _look(self, path: Path, kind: str) -> tuple[str, float, float]:
        found = self.place / "found"
        found.unlink(missing_ok=True)

        def look() -> None:
            found.write_text(json.dumps(refusals(path, kind)))

        outcome, megabytes, seconds = self._watch(_fork(look, self.place / "said"))
        if outcome:
            return outcome, megabytes, seconds
        errors = json.loads(found.read_text())
        if others := [text for text in errors if text]:
            (self.place / "said").write_text("; ".join(others))
            return "other errors", megabytes, seconds
        return "refused" if errors else "read", megabytes, seconds

    def _watch(self, pid: int) -> tuple[str, float, float]:
        """What ended a process, if it did not end by itself; its megabytes and seconds."""
        begun, why = time.monotonic(), ""
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            seconds = time.monotonic() - begun
            if done:
                break
            too_much = _resident(pid) - self.idle * 2**20 > MEMORY
            if not why and (seconds > SECONDS or too_much):
                why = "memory" if too_much else "hangs"
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        megabytes = usage.ru_maxrss / 2**10 - self.idle
        if megabytes > MEMORY / 2**20:
            why = why or "memory"
        return why or ("crashes" if status else ""), megabytes, seconds


def _resident(pid: int) -> int:
    """Bytes that a process has in memory."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(pages[1]) * resource.getpagesize() if pages else 0


def _fork(work: Callable[[], None], said: Path) -> int:
    """``work`` in a process of its own; exit code 0 unless it died."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        warnings.simplefilter("ignore")
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _two_runs(log_dir: Path) -> list[Path]:
    """A finished run, its files compressed, and one that was killed, its files live."""
    log_dir.mkdir(parents=True)
    runs, counts = [], {"pwrite": 0}
    for name in ("finished", "killed"):
        kill_at = int(0.9 * counts["pwrite"])
        notes = Notes(str(log_dir / name), "", kill_at, "pwrite" if kill_at else "", 0.5)
        overrides = [*TINY, *SMALL, f"paths.log_dir={log_dir / name}.logs"]
        process = Process(notes, overrides)
        if process.wait() not in (0, -signal.SIGKILL):
            raise RuntimeError(process.output.read_text()[-2000:])
        counts = counts if kill_at else process.counts()
        run = run_folder(log_dir / f"{name}.logs")
        assert run is not None
        runs.append(run)
    return runs


def _idx_files(place: Path) -> list[Path]:
    """Twenty images, plain and packed."""
    values = struct.pack(">2xBB3I", 8, 3, 20, 28, 28) + random.Random(0).randbytes(20 * 28 * 28)
    plain, packed = place / "plain", place / "packed"
    plain.write_bytes(values)
    packed.write_bytes(gzip.compress(values))
    return [plain, packed]


def text_of(tallies: dict[str, Tally]) -> str:
    header = ["file", "cases", *OUTCOMES, "most memory, MB", "slowest, s"]
    rows = []
    total: Counter[str] = Counter()
    for kind, tally in tallies.items():
        rows.append(_row(kind, tally))
        total += tally.outcomes
    most, slowest = (max(getattr(t, name) for t in tallies.values()) for name in LARGEST)
    rows.append(_row("all", Tally(total, most, slowest)))
    return table(header, rows)


LARGEST = ("megabytes", "seconds")


def _row(kind: str, tally: Tally) -> list[str]:
    counts = [str(tally.outcomes[outcome]) for outcome in OUTCOMES]
    ends = [f"{max(0.0, tally.megabytes):.0f}", f"{tally.seconds:.2f}"]
    return [kind, str(tally.outcomes.total()), *counts, *ends]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, help="default: 2,400, 60 if quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="KIND:SEED of one case, as printed for a failure")
    options = parser.parse_args()
    options.cases = options.cases or (60 if options.quick else 2400)
    tallies = measure(options)
    report(options, "fuzz", "Damaged and hostile files", f"{INTRO}\n\n{text_of(tallies)}")
    total: Counter[str] = sum((t.outcomes for t in tallies.values()), Counter())
    if failed := [what for what in FAILURES if total[what]]:
        raise SystemExit(f"failed: {', '.join(failed)}; one again: --case KIND:SEED")


INTRO = (
    "Files of a finished and of a killed run with every measure, and IDX files: bits flipped, "
    "blocks overwritten, moved, cut or from another file, extreme integers; HDF5 structure "
    "changed with its checksums put right, foreign types, filters, links and bombs; YAML and "
    "JSON without end; pickles with payloads, in archives with right checksums. A process of its "
    "own reads each as a user does: all of `Run`, the summary, `read_checkpoint`, "
    "`read_settings`, `read_idx`. Refused is an error that names the file; more than "
    f"{SECONDS:g} s is a hang, more than {MEMORY / 2**30:g} GiB too much memory."
)


def measure(options: argparse.Namespace) -> dict[str, Tally]:
    place = Path(tempfile.mkdtemp(prefix="fuzz", dir=options.dir))
    try:
        fuzz = Fuzz(place)
        tallies: dict[str, Tally] = {}
        for kind, seed in _cases(options):
            outcome, megabytes, seconds, how = fuzz.case(kind, seed)
            tallies.setdefault(kind, Tally()).add(outcome, megabytes, seconds)
            if outcome in FAILURES or options.case:
                numbers = f"{outcome}, {seconds:.1f} s, {megabytes:.0f} MB"
                print(f"--case '{kind}:{seed}': {numbers}: {how}", file=sys.stderr)
        return tallies
    finally:
        shutil.rmtree(place)


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    if options.case:
        kind, _, seed = options.case.rpartition(":")
        yield kind, int(seed)
        return
    for number in range(options.cases):
        yield KINDS[number % len(KINDS)], options.seed * 1_000_000 + number


if __name__ == "__main__":
    main()
