"""Lets calls on a run folder fail, one after another, in every phase of its life.

python scripts/reliability/inject.py [--quick] [--sample N] [--seed S] [--jobs N]
    [--phase NAME] [--all]

A library stands between the process and the C library (``shim.c``). A first pass counts the
calls of each phase; then every one of them fails in a process of its own: each way in which it
can, or for the many writes and openings one way, in turn.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import shim
from faults import FAULTS
from injected import Case, Player, Verdict
from page import arguments, report, table
from process import warm
from scenarios import SCENARIOS, Scenario, phases
from shim import Call

TITLE = "Calls that fail"
IN_TURN = ("write", "open")  # so many, and so alike, that each fails in one way
PHASES = (
    *("starting", "running", "checkpoint", "finalising", "closing", "growing", "resume"),
    *("measure", "measure again", "report", "figures"),
)


def cases_of(name: str, calls: list[Call], every_way: bool) -> Iterator[Case]:
    """What can go wrong in a scenario."""
    turns: Counter[str] = Counter()
    for phase, call in phases(SCENARIOS[name], calls):
        ways = FAULTS[call.kind]
        if call.kind in IN_TURN and not every_way:
            ways = [ways[turns[call.kind] % len(ways)]]
            turns[call.kind] += 1
        for fault in ways:
            yield Case(name, phase, call, fault)


def chosen(options: argparse.Namespace, player: Player) -> list[Case]:
    """The cases to play; a sample has some of every phase."""
    found = [
        case
        for name, calls in player.calls.items()
        for case in cases_of(name, calls, options.all)
        if options.phase in (None, case.phase)
    ]
    shuffled = random.Random(options.seed).sample(found, len(found))
    sample = options.sample or (10 if options.quick else 0)
    return balanced(shuffled, sample) if sample else shuffled


def balanced(cases: list[Case], count: int) -> list[Case]:
    """As many of each phase as there can be, and of each kind of call and fault there."""
    seen: Counter[object] = Counter()
    ranked = []
    for case in cases:
        group = case.phase, case.call.kind, case.fault.name
        ranked.append((seen[group], len(ranked), case))
        seen[group] += 1
    turns: Counter[str] = Counter()
    for place, (_, _, case) in enumerate(sorted(ranked, key=lambda entry: entry[:2])):
        ranked[place] = turns[case.phase], place, case
        turns[case.phase] += 1
    return [case for _, _, case in sorted(ranked, key=lambda entry: entry[:2])][:count]


_own: list[Player] = []  # of a process of the pool


def _begin(player: Player, place: Path) -> None:
    (place / f"{os.getpid()}").mkdir()
    _own.append(player.moved(place / f"{os.getpid()}"))


def _play(case: Case) -> Verdict:
    try:
        return _own[0].play(case)
    except Exception as error:
        return Verdict(case, Counter(cases=1), [("cannot be judged", repr(error))])


def played(cases: list[Case], player: Player, place: Path, jobs: int) -> Iterator[Verdict]:
    """The verdicts, as they come."""
    with multiprocessing.get_context("fork").Pool(jobs, _begin, (player, place)) as pool:
        yield from pool.imap_unordered(_play, cases)


def text_of(verdicts: Iterable[Verdict]) -> str:
    """A column a phase."""
    found = {phase: Counter[str]() for phase in PHASES}
    calls: dict[str, set[int]] = {phase: set() for phase in PHASES}
    for verdict in verdicts:
        counts = found[verdict.case.phase]
        counts += verdict.counts
        counts["failures"] += bool(verdict.findings)
        counts[f"as {verdict.case.fault.name}"] += 1
        calls[verdict.case.phase].add(verdict.case.call.number)
    for phase, numbers in calls.items():
        found[phase]["calls"] = len(numbers)
    columns = [(phase, counts) for phase, counts in found.items() if counts["cases"]]
    columns.append(("all", sum(found.values(), Counter())))
    ways = sorted({name for _, c in columns for name in c if name.startswith("as ")})
    lines = {
        "calls on the folder": "calls",
        "cases": "cases",
        **{f"... {way[3:]}": way for way in ways},
        "ended well (exit code 0)": "exit 0",
        "ended with one line (exit code 1)": "exit 1",
        "rows acknowledged and there": "rows acknowledged",
        "temporary files until the next start": "left until the next start",
        "went on afterwards": "went on",
        "... from states that differ": "went on from a state of its own",
        "**failures**": "failures",
    }
    cells = [[name, *(f"{c[key]:,}" for _, c in columns)] for name, key in lines.items()]
    return table(["", *(name for name, _ in columns)], cells)


INTRO = """Every call on the run folder (open, write, truncate, allocate, fsync, rename, unlink,
mkdir, link, close, mmap, lock; Python's and HDF5's) of a small run fails once, in a process of
its own: with an error, with a part of the bytes, or with an error and every later call as well.
Asked of each: exit code 0 with everything complete, or exit code 1 with one line; no signal, no
hang; a true status; every acknowledged row readable in plain h5py; the run taken up again ends
with datasets, `metrics.csv`, weights and optimizer state equal, byte for byte, to those of the
undisturbed run, and without temporary files. Pages, figures and measured rows are whole, old or
new, and a second attempt succeeds."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sample", type=int, help="so many cases, of all phases")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the order")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--phase", choices=PHASES, help="only this one")
    parser.add_argument("--all", action="store_true", help="every way for writes, too")
    options = parser.parse_args()
    if why := shim.why_not():
        raise SystemExit(f"cannot be run here: {why}.")
    if str(shim.compiled()) not in os.environ.get(shim.PRELOAD, ""):
        os.execve(sys.executable, [sys.executable, *sys.argv], shim.environment())
    verdicts = measure(options)
    report(options, "inject", TITLE, f"{' '.join(INTRO.split())}\n\n{text_of(verdicts)}")
    if failures := sum(bool(verdict.findings) for verdict in verdicts):
        raise SystemExit(f"{failures} of {len(verdicts)} cases failed")


def scenarios(options: argparse.Namespace) -> list[Scenario]:
    """Those with the phase that was asked for; the quick form has training and going on."""
    if options.phase is None:
        names = ("train", "resume") if options.quick else tuple(SCENARIOS)
    else:
        names = (options.phase,) if options.phase in SCENARIOS else ("train",)
    return [SCENARIOS[name] for name in names]


def measure(options: argparse.Namespace) -> list[Verdict]:
    """Play the cases, and say at once what is wrong."""
    warm()
    place = Path(tempfile.mkdtemp(prefix="inject", dir=options.dir)).absolute()
    (place / "first").mkdir()
    player = Player(place / "first", scenarios(options))
    cases = chosen(options, player)
    print(f"{len(cases)} cases", file=sys.stderr)
    verdicts = []
    for verdict in played(cases, player, place, options.jobs):
        verdicts.append(verdict)
        for line in verdict.lines:
            print(f"{len(verdicts)}  {line[:700]}", file=sys.stderr, flush=True)
        if len(verdicts) % 50 == 0:
            print(f"{len(verdicts)} of {len(cases)}", file=sys.stderr, flush=True)
    shutil.rmtree(place)
    return verdicts


if __name__ == "__main__":
    main()
