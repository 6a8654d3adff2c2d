"""Processes that do runs side by side; the death of one of them costs its own run only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from grokscope.app.making_room import making_room, signals
from grokscope.app.output import keep_going_without_output
from grokscope.app.sweeps.work import Work
from grokscope.callbacks.stop import Preempted
from grokscope.processor import make_products_repeatable
from grokscope.store.info import read_info, update_info
from grokscope.store.nofollow import NotPlainFileError, open_regular
from grokscope.store.replacing import make_folder
from grokscope.store.sweep import SweepRun

CONSOLE = "console.log"  # in a run's folder: what it would have printed


def share_processors(processes: int) -> None:
    """Use this process's share of the cores that Slurm or the system has given to all of them.

    Not every cluster binds a job to its cores; without this it would use the others' too, and all
    would be slow. ``OMP_NUM_THREADS`` and the setting ``threads`` come first.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() // processes))


def _cores() -> int:
    if asked := os.environ.get("SLURM_CPUS_PER_TASK"):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Does runs in at most so many processes.

    A signal that asks to make room, and Ctrl-C, go on to the processes, which end their runs in
    order; no further one is begun.

    Args:
        work: What the runs belong to.
        at_once: Most processes.
    """

    def __init__(self, work: Work, at_once: int) -> None:
        self._payload, self._at_once = cloudpickle.dumps(work), at_once
        self._folder = work.folder
        self._idle: list[tuple[Connection, SpawnProcess]] = []
        self._busy: dict[Connection, tuple[SpawnProcess, SweepRun]] = {}
        self._asked: int | None = None

    def run(self, runs: Iterable[SweepRun]) -> None:
        """Do them all.

        Raises:
            Preempted: When every process has made room, after a signal.
            KeyboardInterrupt: Likewise after Ctrl-C.
        """
        waiting = deque(runs)
        with self._signals():
            while self._busy or (waiting and self._asked is None):
                while waiting and self._asked is None and len(self._busy) < self._at_once:
                    self._give(waiting.popleft())
                for connection in wait(list(self._busy)):
                    assert isinstance(connection, Connection)
                    self._take(connection)
            for connection, process in self._idle:
                connection.close()
                process.join()
        if self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self._asked is not None:
            raise Preempted(self._asked)

    def _give(self, run: SweepRun) -> None:
        fresh = not self._idle
        connection, process = self._start() if fresh else self._idle.pop()
        self._busy[connection] = process, run
        if self._asked is not None:  # by now
            _pass_on(self._asked, process)
        with suppress(OSError):  # dead already, as _take will see
            if fresh:
                connection.send_bytes(self._payload)
            connection.send(run)

    def _take(self, connection: Connection) -> None:
        process, run = self._busy.pop(connection)
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            process.join()
            answer = f"its process ended with {_ending(process.exitcode)}"
            if self._asked is None:
                _note_death(self._folder / run.folder, answer)
        else:
            self._idle.append((connection, process))
        print(f"run {run.number}: {answer or 'done'}", flush=True)

    def _start(self) -> tuple[Connection, SpawnProcess]:
        """Without the payload: start() would wait for ever for a reader that has died."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._at_once))
        process.start()
        theirs.close()
        return ours, process

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Passed on; the first one is remembered."""

        def note(number: int, frame: Any) -> None:
            self._asked = self._asked or number
            for process, _ in self._busy.values():
                _pass_on(number, process)

        numbers = [*signals(), signal.SIGINT]
        previous = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _pass_on(number: int, process: SpawnProcess) -> None:
    if number != signal.SIGINT:  # a terminal sends it to all of them
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, number)


def _serve(connection: Connection, at_once: int) -> None:
    """In a process of its own: do run after run."""
    make_products_repeatable()
    keep_going_without_output()
    share_processors(at_once)
    with making_room(), suppress(EOFError, KeyboardInterrupt):
        work: Work = cloudpickle.loads(connection.recv_bytes())
        while True:
            run = connection.recv()
            with suppress(OSError, NotPlainFileError):  # the run will say so
                _redirect(work.folder / run.folder)
            answer = None
            try:
                work.do(run)
            except Preempted as end:
                answer = end.status
            except (SystemExit, KeyboardInterrupt):
                answer = "stopped"
            connection.send(answer)


def _redirect(folder: Path) -> None:
    """What the run prints goes to a file; here it would mix with the others'."""
    make_folder(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with open(open_regular(folder / CONSOLE, flags), "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _note_death(folder: Path, words: str) -> None:
    """For a run that could not say it itself; one that had begun keeps its status."""
    with suppress(OSError, ValueError):  # no folder, or no room in it
        update_info(folder, status=read_info(folder).get("status", "killed"), error=words)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
