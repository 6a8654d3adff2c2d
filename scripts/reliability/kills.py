"""Kills real training processes and looks at what they leave behind; then lets them go on.

python scripts/reliability/kills.py [--quick] [--kills N] [--jobs N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from case import CONFIGURATIONS, EPOCHS, Case, play, uninterrupted
from page import arguments, report, table
from process import warm

FAILURES = (
    "does not open",
    "acknowledged, lost",
    "rows that differ",
    "rows twice",
    "Run.open fails",
    "resume fails",
    "rows unlike",
    "weights unlike",
    "metrics.csv unlike",
    "status",
    "drafts left",
)


def text_of(found: dict[str, Counter[str]]) -> str:
    total: Counter[str] = sum(found.values(), Counter())
    columns = [*found.items(), ("all", total)]
    lines = {
        "processes killed": lambda c: f"{c['kills']}",
        "... at a moment of the clock": lambda c: f"{c['by moment']}",
        "... within a `pwrite`, a part of it done": lambda c: f"{c['by pwrite']}",
        "... before or after a rename": lambda c: f"{c['by replace']}",
        "... while they resumed an earlier one": lambda c: f"{c['killed while resuming']}",
        "... before they had a folder": lambda c: f"{c['before it had a folder']}",
        "HDF5 files left; do not open in plain h5py": lambda c: (
            f"{c['files']}; {c['does not open']}"
        ),
        "rows acknowledged; **lost**": lambda c: (
            f"{c['acknowledged']:,}; **{c['acknowledged, lost']}**"
        ),
        "rows found; a byte unlike the uninterrupted run": lambda c: (
            f"{c['rows']:,}; {c['rows that differ']}"
        ),
        "epochs twice": lambda c: f"{c['rows twice']}",
        "runs on which `Run.open` and its readers fail": lambda c: f"{c['Run.open fails']}",
        "runs brought to their end": lambda c: f"{c['ended']}",
        "... from no checkpoint, anew": lambda c: f"{c['began anew']}",
        "resuming failed": lambda c: f"{c['resume fails']}",
        "a dataset unlike the uninterrupted run": lambda c: f"{c['rows unlike']}",
        "weights, optimizer or random state unlike": lambda c: f"{c['weights unlike']}",
        "`metrics.csv` unlike": lambda c: f"{c['metrics.csv unlike']}",
        "status other than `finished`": lambda c: f"{c['status']}",
        "temporary files left": lambda c: f"{c['drafts left']}",
    }
    rows = [[name, *(show(c) for _, c in columns)] for name, show in lines.items()]
    return table(["", *(name for name, _ in columns)], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, help="default: 210 runs, 6 if quick")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--fresh", type=int, help="every how-manieth run in fresh interpreters")
    parser.add_argument(
        "--resume-every", type=int, default=1, help="every how-manieth run goes on to its end"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the runs with findings")
    options = parser.parse_args()
    found = measure(options)
    fresh = options.fresh
    intro = (
        f"`src/train.py`, {EPOCHS} epochs, `SIGKILL`. The process notes each write that the store "
        "has acknowledged in a file of its own; after the kill every row is compared, byte by "
        "byte, with that of an uninterrupted run, and then runs go on to their end. "
        + (f"Every {fresh}th run is a fresh interpreter, the others forks that have torch "
           "imported already." if fresh else "The processes are forks of one that has torch "
           "imported.")
    )  # fmt: skip
    report(options, "kills", "Killed processes", f"{intro}\n\n{text_of(found)}")
    total: Counter[str] = sum(found.values(), Counter())
    if failed := [what for what in FAILURES if total[what]]:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure(options: argparse.Namespace) -> dict[str, Counter[str]]:
    runs = options.kills or (6 if options.quick else 210)
    if options.fresh is None:
        options.fresh = 0 if options.quick else 10
    warm()
    place = Path(tempfile.mkdtemp(prefix="kills", dir=options.dir))
    names = [*CONFIGURATIONS]
    references = {
        name: uninterrupted(name, place / f"reference-{i}", bool(options.fresh))
        for i, name in enumerate(names)
    }
    cases = []
    for number in range(runs):
        name = names[number % len(names)]
        fresh = bool(options.fresh) and number % options.fresh == options.fresh - 1
        resume = options.quick or number // len(names) % options.resume_every == 0
        seed = options.seed * 100_000 + number
        cases.append(Case(seed, name, references[name], place / f"{number}", fresh, resume))
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    notes: list[str] = []
    for name, counts, said in _each(cases, options.jobs):
        found[name] += counts
        notes += said
        done = sum(c["kills"] for c in found.values())
        print(f"{done} kills", *(note[:600] for note in said), sep="\n  ", file=sys.stderr)
    if notes and options.keep:
        print(f"the runs with findings are kept in {place}", file=sys.stderr)
    else:
        shutil.rmtree(place)
    return found


def _each(cases: list[Case], jobs: int) -> Any:
    if jobs == 1:
        yield from map(play, cases)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(play, cases)


if __name__ == "__main__":
    main()
