"""Signals end a run at the end of a pass, with nothing lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from grokscope.callbacks.checkpoint import Checkpoints
from grokscope.validation import require_float

log = logging.getLogger(__name__)
SIGNAL_NAME = "SUBMITIT_PREEMPT_SIGNAL"  # of the environment; read by submitit too
GO_ON_LATER = 75  # EX_TEMPFAIL of sysexits.h
SHELL = 128  # to which a shell adds the number of the signal that ended a process


def ending_signals() -> list[int]:
    """SIGTERM, and SIGHUP of a terminal that is closed, unless ``nohup`` has it ignored."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


def preemption_signal() -> signal.Signals | None:
    """The one with which Slurm asks to make room: SIGUSR2; None where there is no such signal."""
    return getattr(signal, f"SIG{os.environ.get(SIGNAL_NAME, 'USR2')}", None)


class Preempted(SystemExit):
    """Ends a process that was asked to make room.

    The exit code is 75 after the signal with which Slurm asks, else what a shell reports for it:
    143 for SIGTERM, 129 for SIGHUP.

    Attributes:
        signal: Which one asked.
        status: Of the run, in ``run.json``: ``preempted`` after Slurm's, else ``stopped``.
    """

    def __init__(self, number: int) -> None:
        ended = number in (signal.SIGTERM, getattr(signal, "SIGHUP", None))
        super().__init__(SHELL + number if ended else GO_ON_LATER)
        self.signal = number
        self.status = "stopped" if ended else "preempted"


class StopOnSignal(Callback):
    """Ends a run in order when a signal asks for it.

    - Ctrl-C lets the running pass end, and the run with it; a second one interrupts at once.
    - SIGUSR2 (or the one that ``$SUBMITIT_PREEMPT_SIGNAL`` names), with which Slurm announces a
      time limit or a preemption, SIGTERM and SIGHUP (a closed terminal) let the running pass end,
      save ``last.ckpt`` and raise :class:`Preempted`. All processes of a run do so after the same
      pass. A pass that takes longer than ``patience_seconds`` is given up; the run then goes on
      from its last checkpoint.

    Args:
        patience_seconds: Less than the time from the signal to the end, with room for saving.

    Attributes:
        received: The signal that asked; None so far.
    """

    def __init__(self, patience_seconds: float = 60.0) -> None:
        super().__init__()
        self.patience_seconds = require_float("patience_seconds", patience_seconds, above=0)
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.received == signal.SIGINT

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.received = None
        self._take(signal.SIGINT, self._finish)
        if (asked := preemption_signal()) is not None:
            self._take(asked, self._leave)
        for number in ending_signals():
            self._take(number, self._leave)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, all processes together; in mid-epoch Lightning would cut the pass short."""
        number = _largest(trainer, self.received or 0)
        if number == signal.SIGINT:
            trainer.should_stop = True
        elif number:
            self._disarm()
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Checkpoints):
                    callback.save_last(trainer)
            log.info("Made room after %d epochs.", trainer.current_epoch + 1)
            raise Preempted(number)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._disarm()
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Likewise, since then there is no teardown; Lightning gives back all signals itself."""
        self._disarm()
        self._previous.clear()

    def _disarm(self) -> None:
        """Let what follows take as long as it likes."""
        if getattr(signal, "SIGALRM", None) in self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _take(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._previous[number] = signal.signal(number, handler)

    def _finish(self, number: int, frame: FrameType | None) -> None:
        log.warning("Stopping after this pass; press Ctrl-C again to stop at once.")
        self.received = number
        signal.signal(signal.SIGINT, self._previous.pop(signal.SIGINT))

    def _leave(self, number: int, frame: FrameType | None) -> None:
        log.warning("Asked by %s to make room.", signal.Signals(number).name)
        if self.received is None and hasattr(signal, "setitimer"):
            self._take(signal.SIGALRM, self._give_up)
            signal.setitimer(signal.ITIMER_REAL, self.patience_seconds)
        self.received = number

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        log.warning("This pass takes too long: going on later from the last checkpoint.")
        raise Preempted(self.received or signal.SIGTERM)


def _largest(trainer: Trainer, number: int) -> int:
    """Of what all processes were asked by."""
    if trainer.world_size == 1:
        return number
    own = torch.tensor(number, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(own, reduce_op="max"))
