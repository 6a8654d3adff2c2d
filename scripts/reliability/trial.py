"""A command in a forked process, one of whose calls on its folder goes wrong.

The fork has torch imported, and its configuration composed by an earlier process with the same
arguments; everything after that is as in a process of its own, up to the C library's ``exit``,
at which HDF5 closes what is still open.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import Fault
from process import Notes, NoteTaker, acknowledged, script_here
from shim import Call, Shim, traced

PATIENCE_SECONDS = 180.0
LOGS = "logs"


@dataclass(frozen=True)
class Command:
    """What a user types: ``python src/<script>.py *overrides``."""

    script: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        code: Its exit code, below 0 for a signal; None if it had to be killed.
        errors: What it printed to stderr.
        acknowledged: (File, table) -> epochs that the store said were safe.
        calls: On the watched folder.
    """

    code: int | None
    errors: str
    acknowledged: dict[tuple[str, str], list[int]]
    calls: list[Call]

    @property
    def hit(self) -> Call | None:
        """The first call that went wrong."""
        return next((call for call in self.calls if call.injected), None)


class Trials:
    """Starts commands in a folder; calls on ``logs`` in it are watched.

    Args:
        place: The folder, from which commands name their files.
        earlier: Trials in another folder, whose composed configurations serve here, too.
    """

    def __init__(self, place: Path, earlier: Trials | None = None) -> None:
        self._place, self._notes = place, place / "notes"
        self._composed = earlier._composed if earlier else _Composed()
        self._notes.mkdir(parents=True)

    def run(
        self,
        command: Command,
        fault: tuple[int, Fault] | None = None,
        prepare: Callable[[Callable[[str], None]], None] | None = None,
    ) -> Outcome:
        """Run a command to its end.

        Args:
            command: Which.
            fault: The number of the call that goes wrong, and how.
            prepare: Called in the process before the script, with a function that writes a mark
                into the trace.
        """
        learn = self._composed.missing(command)
        for name in ("trace", "acks"):
            (self._notes / name).unlink(missing_ok=True)
        pid = _fork(lambda: self._child(command, fault, prepare, learn))
        code = _wait(pid)
        if (learnt := self._notes / "composed").exists():
            self._composed.load(command, learnt)
        errors = (self._notes / "stderr").read_text(errors="replace")
        trace = self._notes / "trace"
        calls = list(traced(trace)) if trace.exists() else []
        return Outcome(code, errors, acknowledged(self._notes / "acks"), calls)

    def _child(
        self,
        command: Command,
        fault: tuple[int, Fault] | None,
        prepare: Callable[[Callable[[str], None]], None] | None,
        learn: bool,
    ) -> int:
        for fd, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(self._notes / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, fd)
        os.chdir(self._place)
        self._composed.install()
        taker = NoteTaker(Notes(str(self._notes / "acks"), str(self._notes / "times")))
        shim = Shim()
        if prepare:
            prepare(shim.mark)
        shim.trace(self._notes / "trace")
        shim.watch(self._place / LOGS)
        if fault:
            number, how = fault
            shim.fail(number, how.mode, how.error, how.then)
        code = script_here(command.script, command.overrides)
        taker.finish()
        if learn:
            self._composed.save(self._notes / "composed")
        return code


def _fork(work: Callable[[], int]) -> int:
    """Do ``work`` in a fork, which ends as an interpreter does; the fork's id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1  # as an exception ends an interpreter
    try:
        code = work()
        gc.collect()
        atexit._run_exitfuncs()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).exit(code)
    raise AssertionError


def _wait(pid: int) -> int | None:
    stop = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < stop:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


class _Composed:
    """Configurations that Hydra has composed once, for the same command line in later forks."""

    def __init__(self) -> None:
        self._commands: set[Command] = set()
        self._found: dict[Any, Any] = {}

    def missing(self, command: Command) -> bool:
        return command not in self._commands

    def install(self) -> None:
        from hydra._internal.config_loader_impl import ConfigLoaderImpl

        compose = ConfigLoaderImpl._load_configuration_impl

        def composed(loader: Any, **how: Any) -> Any:
            key = how["config_name"], tuple(how["overrides"]), how["run_mode"]
            if key not in self._found:
                self._found[key] = pickle.dumps(compose(loader, **how))
            return pickle.loads(self._found[key])

        ConfigLoaderImpl._load_configuration_impl = composed  # type: ignore[method-assign]

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps((self._found, sorted(sys.modules))))

    def load(self, command: Command, path: Path) -> None:
        """Take over what a fork has learnt, the modules that it imported as well."""
        self._found, modules = pickle.loads(path.read_bytes())
        path.unlink()
        for name in modules:
            if name not in sys.modules and name != "__main__":
                importlib.import_module(name)
        self._commands.add(command)
        for config in self._found.values():
            _parse(pickle.loads(config))


def _parse(config: Any) -> None:
    """Parse what a configuration refers to: the parser is fast at what it has seen."""
    from omegaconf import OmegaConf
    from omegaconf.grammar_parser import parse

    stack = [OmegaConf.to_container(config, resolve=False)]
    while stack:
        node = stack.pop()
        if isinstance(node, str) and "${" in node:
            parse(node)
        elif isinstance(node, (dict, list)):
            stack += node.values() if isinstance(node, dict) else node
