"""Ctrl-C ends a run cleanly."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class StopOnInterrupt(Callback):
    """The first Ctrl-C lets the running pass end, then stops; a second one interrupts at once.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGINT."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: Any) -> None:
            log.warning("Stopping after this pass; press Ctrl-C again to stop at once.")
            self.interrupted = True
            signal.signal(signal.SIGINT, self._previous)

        self._previous = signal.signal(signal.SIGINT, stop)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, all processes together; in mid-epoch Lightning would cut the pass short."""
        if trainer.strategy.reduce_boolean_decision(self.interrupted, all=False):
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give SIGINT back."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
