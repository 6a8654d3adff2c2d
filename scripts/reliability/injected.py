"""One call that goes wrong in one scenario, and what comes of it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import judge
from faults import Fault
from judge import Ended, Finding
from rows import Key, before, epochs_of, plain_rows, together
from scenarios import KILLED_AT, PLAIN, SCENARIOS, Bench, Scenario
from shim import Call
from trial import Outcome

RESUME = "resume=true"
PASSING = re.compile(  # what a page says of the moment and the place
    rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|"(size on disk|run folder)","[^"]*"'
)
MOVED = re.compile(r"(?<=measured/)\.(?=default)|(?<=default)\.\d+\.old")


@dataclass(frozen=True)
class Case:
    """What is done: the ``call``-th call of a scenario goes wrong."""

    scenario: str
    phase: str
    call: Call
    fault: Fault

    def __str__(self) -> str:
        where = Path(self.call.path2 or self.call.path).name
        return f"{self.phase}: {self.call.number} {self.call.kind} {where}: {self.fault.name}"


@dataclass
class Verdict:
    """What came of it."""

    case: Case
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    hit: Call | None = None
    errors: str = ""

    @property
    def lines(self) -> list[str]:
        """The findings for people."""
        told = self.errors.strip().splitlines()[-1:] if self.errors else []
        hit = f" [hit {self.hit.kind} {Path(self.hit.path).name}]" if self.hit else ""
        return [f"{self.case}{hit}: {what}: {detail} | {told}" for what, detail in self.findings]


class Player:
    """Plays cases on a bench of its own.

    Args:
        place: An empty folder.
        scenarios: Those of the cases to come; each is played once without a fault.
    """

    def __init__(self, place: Path, scenarios: Iterable[Scenario]) -> None:
        self._bench = Bench(place)
        self._bench.state("finished")  # for comparison; making it later would change the folder
        self._ended: dict[tuple[str, ...], Ended] = {}
        self._outputs: dict[str, dict[str, bytes]] = {}
        self._gone_on: dict[tuple[str, str], list[Finding]] = {}
        self.calls = {scenario.name: self._learn(scenario) for scenario in scenarios}

    def moved(self, place: Path) -> Player:
        """One that knows as much, in another folder."""
        other = copy(self)
        other._bench, other._gone_on = self._bench.moved(place), {}
        return other

    def _learn(self, scenario: Scenario) -> list[Call]:
        """The calls of a scenario in which nothing goes wrong; what it leaves is kept."""
        self._bench.begin(scenario.begins_with)
        outcome = self._bench.play(scenario)
        if outcome.code or outcome.hit:
            raise RuntimeError(f"{scenario.name} fails by itself: {outcome.errors[-2000:]}")
        if scenario.script == "train":
            self._ended[scenario.name] = self._uninterrupted(scenario)
            if unlike := [*judge.complete(self._bench.only_run(), self._ended[scenario.name])]:
                raise RuntimeError(f"{scenario.name} without a fault: {unlike}")
            self._bench.play(again(scenario))  # composes the configuration
        else:
            self._outputs[scenario.name] = self._files(self._bench.logs)
        return outcome.calls

    def _uninterrupted(self, scenario: Scenario) -> Ended:
        """What an uninterrupted run with these settings leaves."""
        if scenario.typed != PLAIN:
            return Ended.of(self._bench.only_run())
        ended = Ended.of(self._bench.only_run("finished"))
        page = {"report.html"} if scenario.only != "closing" else set()
        return replace(ended, names=ended.names - page)

    def play(self, case: Case) -> Verdict:
        """Play a case and judge it."""
        scenario, verdict = SCENARIOS[case.scenario], Verdict(case)
        self._bench.begin(scenario.begins_with)
        outcome = self._bench.play(scenario, fault=(case.call.number, case.fault))
        verdict.hit, verdict.errors = outcome.hit, outcome.errors
        verdict.counts["cases" if outcome.hit else "not reached"] += 1
        verdict.counts[f"exit {outcome.code}"] += 1
        verdict.findings += judge.ending(outcome, case.fault)
        if scenario.script == "train":
            verdict.findings += self._judge_run(case, outcome, verdict.counts)
        else:
            verdict.findings += self._judge_output(scenario, outcome, verdict.counts)
        return verdict

    # ---- runs ----------------------------------------------------------------------------------

    def _judge_run(self, case: Case, outcome: Outcome, counts: Counter[str]) -> Iterator[Finding]:
        reference = self._ended[case.scenario]
        runs = sorted(self._bench.runs())
        required = self._required(case.scenario, outcome)
        if len(runs) > 1:
            yield "a second run", ", ".join(run.name for run in runs)
        if not runs and required:
            yield "acknowledged, lost", "there is no run"
        for run in runs[:1]:
            yield from judge.status(run, outcome, case.fault, case.phase)
            yield from judge.rows(run, reference, required)
            yield from judge.readable(run)
            counts["rows acknowledged"] += sum(map(len, required.values()))
            counts["left until the next start"] += bool(judge.left_over(run, reference))
        stuck = "unlink" in case.fault.then  # then nobody can remove a draft
        found = list(self._judge_end_of_run(case, outcome, runs, counts))
        yield from (each for each in found if not (stuck and each[0] == "files left"))

    def _judge_end_of_run(
        self, case: Case, outcome: Outcome, runs: list[Path], counts: Counter[str]
    ) -> Iterable[Finding]:
        reference = self._ended[case.scenario]
        if len(runs) == 1 and (outcome.code == 0 or judge.is_finished(runs[0])):
            return judge.complete(runs[0], reference)
        return self._go_on(SCENARIOS[case.scenario], counts) if outcome.code else ()

    def _required(self, scenario: str, outcome: Outcome) -> dict[Key, list[int]]:
        """Rows that must be there: acknowledged by this process, or before its checkpoint."""
        if scenario != "resume":
            return outcome.acknowledged
        old = self._bench.only_run("killed")
        passes = max(int(path.stem[6:]) for path in old.glob("checkpoints/epoch_*.ckpt"))
        assert passes < KILLED_AT
        return together(before(epochs_of(plain_rows(old)), passes), outcome.acknowledged)

    def _go_on(self, scenario: Scenario, counts: Counter[str]) -> list[Finding]:
        """The same command again, with ``resume=true`` and without a fault."""
        key = scenario.name, judge.digest(self._bench.runs())
        counts["went on"] += 1
        if key not in self._gone_on:
            counts["went on from a state of its own"] += 1
            outcome = self._bench.play(again(scenario))
            self._gone_on[key] = [*self._judge_end(outcome, self._ended[scenario.name])]
        return self._gone_on[key]

    def _judge_end(self, outcome: Outcome, reference: Ended) -> Iterator[Finding]:
        if outcome.code != 0:
            yield "resume fails", f"exit {outcome.code}: {outcome.errors[-400:]}"
            return
        *others, run = sorted(self._bench.runs())
        yield from judge.complete(run, reference)
        for other in others:
            if any(other.glob("*.h5")):  # else it had not begun, and the user was told so
                yield "began anew", f"{other.name} stays {judge.status_of(other)!r}"
            if left := judge.left_over(other, reference):
                yield "files left", f"{', '.join(sorted(left))} in a folder without a run"

    # ---- measuring and reporting ---------------------------------------------------------------

    def _judge_output(
        self,
        scenario: Scenario,
        outcome: Outcome,
        counts: Counter[str],
    ) -> Iterator[Finding]:
        """The output is whole, old or new; the run is as it was; a second attempt works."""
        done, output = outcome.code == 0, self._outputs[scenario.name]
        stuck = outcome.hit is not None and outcome.hit.kind in ("unlink", "rmdir")
        left = False
        for what, name in self._unlike(scenario, output, done):
            if what == "files left" and (stuck or not done):
                left = True
            else:
                yield what, name
        counts["left until the next start"] += left
        if done and not left:
            return
        counts["went on"] += 1
        self._age_drafts()
        more = ("replace=true",) if scenario.name == "measure" else ()
        second = self._bench.play(scenario, *more)
        if second.code != 0:
            yield "a second attempt fails", f"exit {second.code}: {second.errors[-400:]}"
            return
        for what, name in self._unlike(scenario, output, True):
            yield what, f"{name} after a second attempt"

    def _unlike(
        self, scenario: Scenario, output: Mapping[str, bytes], done: bool
    ) -> Iterator[Finding]:
        """Files that are neither those of an undisturbed command nor, until done, the old ones."""
        old = self._files(self._bench.state(scenario.begins_with))
        found = self._files(self._bench.logs)
        aside = {MOVED.sub("", name): content for name, content in found.items()}
        for name in sorted(found.keys() | old.keys() | output.keys()):
            content = found.get(name)
            if content is None and not done and aside.get(name) == old.get(name) is not None:
                continue  # moved away, and to come back
            if content == output.get(name) or (not done and content == old.get(name)):
                continue
            known = name in output or name in old
            yield ("output torn" if known else "files left"), name

    def _age_drafts(self) -> None:
        """As if they were left yesterday: where there is no lock, younger ones may be in use."""
        for path in self._bench.logs.rglob("*.part"):
            os.utime(path, (0, 0))

    def _files(self, logs: Path) -> dict[str, bytes]:
        """Relative path -> content, less what the clock decides."""
        (run,) = logs.glob("runs/*/*")
        found = {}
        for name in judge.names(run):
            if Path(name).name not in judge.OF_THE_MOMENT:
                path = run / name
                found[name] = _content(path)
        return found


def again(scenario: Scenario) -> Scenario:
    """The same command with ``resume=true``."""
    return replace(scenario, arguments=tuple({**dict.fromkeys(scenario.arguments), RESUME: 0}))


def _content(path: Path) -> bytes:
    """What is to be the same whenever and wherever it is written."""
    if path.name == "run.json":
        return str(judge.status_of(path.parent)).encode()
    content = path.read_bytes()
    if path.suffix == ".html":
        return PASSING.sub(b"", content)
    try:
        if path.suffix == ".h5":
            return repr(sorted(judge.datasets_of(path).items())).encode()
    except OSError:
        pass  # torn: unlike any other
    return content
