"""Builds the states that a power cut could leave of a run, reads them and brings them to an end.

python scripts/reliability/cuts.py [--quick] [--states N] [--jobs N]
"""

from __future__ import annotations

import os
import sys

import shim

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the commands do

if __name__ == "__main__" and shim.PRELOAD not in os.environ and shim.why_not() is None:
    os.execve(sys.executable, [sys.executable, *sys.argv], shim.environment())

import argparse
import gc
import hashlib
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aftermath import Aftermath
from aftermath_measured import MeasuredAftermath
from cut_runs import EPOCHS, SYNC_SECONDS, Recording, record, record_measure, record_resumed
from cut_states import MODELS, choosers
from cut_volume import write_out
from findings import FAILURES, LINES, UNREADABLE, Findings
from forked import each
from page import arguments, report, table
from process import warm

EVENTS = {"rename", "fsync", "unlink", "mkdir", "link", "truncate"}
AT_EVENTS = 0.7  # of the cuts


@dataclass(frozen=True)
class State:
    """One state, of a run that was cut after so many calls."""

    recording: Recording
    stop: int
    model: str
    kind: str
    content: dict[str, bytes | None]

    def __str__(self) -> str:
        call = self.recording.calls[self.stop - 1]
        path = call.path.rpartition("/")[2]
        where = f"{self.stop} of {len(self.recording.calls)} ({call.kind} {path})"
        return f"{self.recording.name}, call {where}, {self.model}, {self.kind}"


def states(recording: Recording, count: int, draw: random.Random) -> Iterator[State]:
    """So many different states of one run."""
    seen: set[bytes] = set()
    while len(seen) < count:
        stop = _moment(recording, draw)
        volume = recording.at(stop)
        model = draw.choice([*MODELS])
        for kind, chooser in draw.sample([*choosers(volume, model, draw)], 3):
            content = volume.after(chooser)
            if (print_ := _fingerprint(content)) not in seen and len(seen) < count:
                seen.add(print_)
                yield State(recording, stop, model, kind, content)


def _moment(recording: Recording, draw: random.Random) -> int:
    """After how many calls: often just before or after one of the rarer ones."""
    if draw.random() > AT_EVENTS:
        return draw.randint(1, len(recording.calls))
    rare = [i for i, call in enumerate(recording.calls) if call.kind in EVENTS]
    return max(1, draw.choice(rare) + draw.randint(0, 1))


def _fingerprint(content: dict[str, bytes | None]) -> bytes:
    found = hashlib.sha256()
    for path, data in content.items():
        found.update(f"{path} {None if data is None else len(data)}\n".encode() + (data or b""))
    return found.digest()


@dataclass(frozen=True)
class Verdict:
    """A state in words, where it belongs in the tables, and what was found."""

    state: str
    run: str
    kind: str
    model: str
    found: Findings


def judge(state: State, place: Path, number: int, resume: bool, keep: bool) -> Verdict:
    recording = state.recording
    own = place / f"{number}"
    root = own / "state"
    write_out(state.content, root)
    after = _aftermath(state, root, number)
    after.examine()
    if resume:
        after.go_on(recording.command)
    if keep and after.found.notes:
        write_out(state.content, own / "before")
        shutil.move(own, place.with_name(f"{place.name}-{number}"))
    else:
        shutil.rmtree(own)
    return Verdict(str(state), recording.name, state.kind, state.model, after.found)


def _aftermath(state: State, root: Path, seed: int) -> Aftermath | MeasuredAftermath:
    recording = state.recording
    folder, reference = root / recording.run, recording.reference
    if recording.measured is not None:
        return MeasuredAftermath(root, folder, reference, recording.measured, seed)
    return Aftermath(root, folder, reference, recording.required(state.stop), seed)


def recordings(place: Path, quick: bool) -> list[Recording]:
    plain = record("plain", place)
    if quick:
        return [plain]
    several = record("several schedules", place)
    return [
        plain,
        record("factor-heavy", place),
        several,
        record_resumed("resumed", several, 0.6, place),
        record_measure("measure.py", plain, place),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--states", type=int, help="default: 1000, 20 if quick")
    parser.add_argument("--jobs", type=int, default=1, help="states at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--resume-every",
        type=int,
        help="every how-manieth state goes on to its end; default: each, every 5th if quick",
    )
    parser.add_argument("--keep", action="store_true", help="keep the states with findings")
    options = parser.parse_args()
    if why := shim.why_not():
        raise SystemExit(f"cuts.py cannot record calls here: {why}.")
    warm()
    place = Path(tempfile.mkdtemp(prefix="cuts", dir=options.dir))
    runs = recordings(place, options.quick)
    gc.freeze()  # what is here by now is not copied into each fork by a collection there
    verdicts = [*judged(runs, options, place)]
    shutil.rmtree(place)
    report(options, "cuts", "Power cuts", f"{intro(runs)}\n\n{text_of(verdicts)}")
    total = counts(verdicts)
    if failed := [what for what in FAILURES if total[what]]:
        raise SystemExit(f"failed: {', '.join(failed)}")


def judged(runs: list[Recording], options: argparse.Namespace, place: Path) -> Iterator[Verdict]:
    """A verdict on each of the states."""
    count = (options.states or (20 if options.quick else 1000)) // len(runs)
    drawn = (
        state
        for i, run in enumerate(runs)
        for state in states(run, count, random.Random(options.seed * 100 + i))
    )
    every = options.resume_every or (5 if options.quick else 1)
    tasks = (
        partial(judge, state, place, i, i % every == 0, options.keep)
        for i, state in enumerate(drawn)
    )
    for number, verdict in enumerate(each(tasks, options.jobs, place)):
        if isinstance(verdict, str):
            found = Findings()
            found.fail("crashes", verdict)
            verdict = Verdict("a state", "?", "?", "?", found)
        notes = verdict.found.notes
        if notes:
            print(f"{number}: {verdict.state}", *notes, sep="\n  ", file=sys.stderr, flush=True)
        if number % 25 == 24:
            print(f"{number + 1} states", file=sys.stderr, flush=True)
        yield verdict


def counts(verdicts: Iterable[Verdict]) -> Counter[str]:
    return sum((v.found.counts for v in verdicts), Counter())


def intro(runs: list[Recording]) -> str:
    calls = sum(len(run.calls) for run in runs)
    names = ", ".join(run.name for run in runs)
    return (
        f"Each call that runs of `src/train.py` ({EPOCHS} epochs; {names}) make on their folder "
        f"is recorded ({calls:,} calls). A cut after any call may leave of a file's pages (4096 "
        "bytes) any version since its last sync, or zeros, and any of its sizes since then. "
        "*Names in order*: operations on names reach the disk in their order, and a sync takes "
        "along those before it, as in the journals of ext4 and XFS. *Names in any order*: each by "
        "itself, and surely only with a sync of its folder, as POSIX permits. Each state is read, "
        "and brought to its end by `resume=true` or `run=FOLDER`; the end is compared, byte by "
        f"byte, with that of the run without a cut. `storage.sync_seconds={SYNC_SECONDS}`."
    )


def text_of(verdicts: list[Verdict]) -> str:
    by_model = {name: counts(v for v in verdicts if v.model == name) for name in MODELS}
    by_model["all"] = counts(verdicts)
    lines = {"states": "states", **LINES}
    rows = [[words, *(f"{c[what]:,}" for c in by_model.values())] for what, words in lines.items()]
    return f"{table(['', *by_model], rows)}\n\n{_by_sort(verdicts)}"


SORTS = {
    "unreadable": UNREADABLE,
    "unresumable": ("resume fails",),
    "with holes": ("holes",),
    "with any failure": FAILURES,
}


def _by_sort(verdicts: list[Verdict]) -> str:
    """How many states of each sort there are, and how many of them failed."""
    rows = []
    for sort in ("run", "kind"):
        for name in sorted({getattr(v, sort) for v in verdicts}):
            found = [v.found for v in verdicts if getattr(v, sort) == name]
            bad = [sum(f.any(names) for f in found) for names in SORTS.values()]
            rows.append([name, *map(str, (len(found), *bad))])
    return table(["run, or what has survived", "states", *SORTS], rows)


if __name__ == "__main__":
    main()
