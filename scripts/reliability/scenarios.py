"""What is done to a run folder while calls fail: training, going on, measuring, reporting."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from case import TINY
from shim import Call
from trial import LOGS, Command, Outcome, Trials

EPOCHS, KILLED_AT = 6, 4
SMALL = (
    *(typed for typed in TINY if not typed.startswith(("trainer.max", "callbacks.checkpoints"))),
    "data.batch_size=40",
    "measures.kinds=[batch,weight]",
    "measures.probe=10",
    "schedule.weight=every 3",
    "schedule.checkpoint=every 2",
    "callbacks.checkpoints.last_every_seconds=1000",
    "storage.sync_seconds=1000",
    f"trainer.max_epochs={EPOCHS}",
)
PLAIN = (*SMALL, "schedule.factor=every 1")
GROWING = (*SMALL, "schedule.factor=adaptive every 1 to every 1")
Mark = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """A command, and what lies in the folder before it.

    Attributes:
        name: Of the phase, where the command's calls are not told apart.
        typed: The settings of the run.
        script: What is started.
        arguments: Typed after the settings, or alone for another script than ``train``; ``{run}``
            is the run's folder.
        begins_with: The state that is there; empty for none.
        only: The phase whose calls fail; empty for all.
        spared: Kinds of calls that do not fail, since they do in another scenario.
    """

    name: str
    typed: tuple[str, ...] = PLAIN
    script: str = "train"
    arguments: tuple[str, ...] = ("report=false",)
    begins_with: str = ""
    only: str = ""
    spared: tuple[str, ...] = ()


MEASURE = ("run={run}", "measures=gop", "measures.kinds=[batch]")
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("train"),
        Scenario("growing", GROWING, only="growing"),
        Scenario("resume", arguments=("report=false", "resume=true"), begins_with="killed"),
        Scenario("closing", arguments=("report=true",), only="closing"),
        Scenario("measure", script="measure", arguments=MEASURE, begins_with="finished"),
        Scenario(
            "measure again",
            script="measure",
            arguments=(*MEASURE, "replace=true"),
            begins_with="measured",
            spared=("open", "write", "truncate", "lock", "allocate"),
        ),
        Scenario("report", script="report", arguments=("run={run}",), begins_with="reported"),
        Scenario(
            "figures",
            script="report",
            arguments=("run={run}", "figures=[png]"),
            begins_with="finished",
            spared=("open",),
        ),
    )
}


class Bench:
    """A folder in which scenarios are played, with the states that they begin with.

    Args:
        place: An empty folder.
    """

    def __init__(self, place: Path) -> None:
        self._settle(place, Trials(place))
        (place / "states").mkdir()

    def _settle(self, place: Path, trials: Trials) -> None:
        self.place, self.logs, self._trials = place, place / LOGS, trials
        self.logs.mkdir()

    def moved(self, place: Path) -> Bench:
        """The same in another empty folder, for another process."""
        other = Bench.__new__(Bench)
        other._settle(place, Trials(place, self._trials))
        shutil.copytree(self.place / "states", place / "states")
        return other

    def state(self, name: str) -> Path:
        """Where the folder of a state is kept; made when it is first asked for."""
        folder = self.place / "states" / name
        if not folder.exists():
            before, scenario, prepare = STATES[name]
            self.begin(before)
            play = partial(watch_phases, SCENARIOS[scenario]) if prepare is None else prepare
            outcome = self._trials.run(self.command(SCENARIOS[scenario]), prepare=play)
            if outcome.code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"{name}: {outcome.code} {outcome.errors[-2000:]}")
            shutil.copytree(self.logs, folder)
        return folder

    def begin(self, state: str) -> None:
        """Let the watched folder be in a state; empty: nothing there."""
        kept = self.state(state) if state else None
        shutil.rmtree(self.logs)
        if kept:
            shutil.copytree(kept, self.logs)
        else:
            self.logs.mkdir()

    def runs(self, state: str = "") -> list[Path]:
        """The folders of runs, begun or not: in the watched folder, or as a state is kept."""
        logs = self.state(state) if state else self.logs
        return [path for path in logs.glob("runs/*/*") if path.is_dir()]

    def only_run(self, state: str = "") -> Path:
        """The run, where there is one."""
        (run,) = self.runs(state)
        return run

    def command(self, scenario: Scenario, *more: str) -> Command:
        """What is typed in the bench's folder; the watched one must be in its first state."""
        if scenario.script == "train":
            where = (f"paths.log_dir={LOGS}",)
            return Command("train", (*scenario.typed, *where, *scenario.arguments, *more))
        run = self.only_run().relative_to(self.place)
        arguments = (argument.format(run=run) for argument in scenario.arguments)
        return Command(scenario.script, (*arguments, *more))

    def play(self, scenario: Scenario, *more: str, **how: Any) -> Outcome:
        """Run a scenario's command on the folder as it is."""
        return self._trials.run(
            self.command(scenario, *more), prepare=partial(watch_phases, scenario), **how
        )


def watch_phases(scenario: Scenario, mark: Mark) -> None:
    """Mark in the trace when a phase begins and ends; leave out what only takes time."""
    from lightning import Trainer

    from grokscope.app import drawing, hooks, training
    from grokscope.callbacks import Checkpoints, GOPCallback
    from grokscope.store import reopen
    from grokscope.store.run_writer import RunWriter

    reopen.FIRST_ROOM = 4  # so that tables of unknown length grow in a short run
    training.save_figures = lambda run: None
    hooks.validate = lambda *config: None  # builds everything, which is built again later
    panels = drawing.panels
    drawing.panels = lambda *a, **k: panels(*a, **k)[:1]
    drawing._heat_maps = lambda *a, **k: iter(())
    during = partial(_during, mark)
    during(Trainer, "fit", "running")
    during(GOPCallback, "on_train_start", "starting")
    during(RunWriter, "_grow", "growing")
    during(RunWriter, "finalise", "finalising")
    if scenario.only == "closing":
        during(training, "_summarise", "closing")
    else:
        training._summarise = lambda *run: None
    for hook in ("on_fit_start", "on_train_start", "on_train_epoch_end", "on_train_end"):
        during(Checkpoints, hook, "checkpoint")


def _during(mark: Mark, owner: Any, name: str, phase: str) -> None:
    original = getattr(owner, name)

    def marked(*arguments: Any, **named: Any) -> Any:
        mark(f"+{phase}")
        try:
            return original(*arguments, **named)
        finally:
            mark(f"-{phase}")

    setattr(owner, name, marked)


def kill_later(mark: Mark) -> None:
    """SIGKILL once some passes are done whose rows are written and not yet in a checkpoint."""
    from grokscope.callbacks import Checkpoints

    def kill(self: Any, trainer: Any, module: Any) -> None:
        if trainer.current_epoch + 1 == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, trainer, module)

    original = Checkpoints.on_train_epoch_end
    Checkpoints.on_train_epoch_end = kill  # type: ignore[method-assign]


def old_page(mark: Mark) -> None:
    """Write a page that differs from that of any run."""
    from grokscope.app import reporting

    def write(run: Any, output: Path | None) -> Path:
        path: Path = run.path / "report.html"
        path.write_text("an old page", encoding="utf-8")
        return path

    reporting.write_report = write  # type: ignore[assignment]


STATES: dict[str, tuple[str, str, Callable[[Mark], None] | None]] = {
    "killed": ("", "train", kill_later),
    "finished": ("", "closing", None),
    "measured": ("finished", "measure", None),
    "reported": ("finished", "report", old_page),
}
"""Name -> the state before, the scenario that leads to it, and what is changed in that."""


def phases(scenario: Scenario, calls: list[Call]) -> Iterator[tuple[str, Call]]:
    """The phase of each call that is to fail."""
    stack = ["starting"]
    for call in calls:
        if call.kind != "mark":
            phase = stack[-1] if scenario.name == "train" else scenario.name
            if scenario.only in ("", stack[-1]) and call.kind not in scenario.spared:
                yield phase, call
        elif call.path.startswith("+"):
            stack.append(call.path[1:])
        elif stack.pop() == "running":
            stack = ["closing"]
