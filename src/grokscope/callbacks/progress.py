"""A progress bar that refreshes by time, not by step."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from grokscope.validation import require_float

log = logging.getLogger(__name__)


class ProgressBar(Callback):
    """Epoch, ETA, and the latest losses and accuracies: ``train 0.0033 100%  test 0.032 5%``.

    On a terminal it is a bar; elsewhere (a log file, Slurm) a line now and then. Where that cannot
    be written, it is left out.

    Args:
        refresh_seconds: Time between refreshes of the bar.
        line_seconds: Time between lines where there is no terminal.
    """

    def __init__(self, refresh_seconds: float = 0.5, line_seconds: float = 30.0) -> None:
        super().__init__()
        self.refresh_seconds = require_float("refresh_seconds", refresh_seconds, above=0)
        self.line_seconds = require_float("line_seconds", line_seconds, above=0)
        self._progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        if not trainer.is_global_zero:
            return
        self._console = Console()
        self._console.on_broken_pipe = _raise  # type: ignore[method-assign]
        self._shown = time.monotonic()
        self._begun, self._first = self._shown, trainer.current_epoch
        if not self._console.is_terminal:
            return
        columns = (
            TextColumn("epoch {task.completed}/{task.total}"),
            BarColumn(bar_width=10),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
        )
        self._progress = Progress(*columns, console=self._console, auto_refresh=False)
        self._task = self._progress.add_task("", total=_total(trainer), values="")
        with self._unless_unreadable():
            self._progress.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Refresh if it is time."""
        wait = self.refresh_seconds if self._progress else self.line_seconds
        if trainer.is_global_zero and time.monotonic() - self._shown > wait:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the end and leave the line."""
        if trainer.is_global_zero:
            self._show(trainer, pl_module)
        self._close()

    @contextmanager
    def _unless_unreadable(self) -> Iterator[None]:
        """A closed pipe, a full disk, a terminal that is gone are no reason to stop training."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._console.quiet = True  # else what it could not write would gather
            bar, self._progress = self._progress, None
            with suppress(Exception):  # rich may have stopped it already, and then fails
                if bar is not None:
                    bar.stop()
            log.debug("No progress shown: %r", error)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal as it was."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            with self._unless_unreadable():
                self._progress.stop()
            self._progress = None

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        self._shown = time.monotonic()
        values = _values(module)
        done = trainer.current_epoch
        total = _total(trainer)
        with self._unless_unreadable():
            if self._progress is not None:
                self._progress.update(self._task, completed=done, values=values, refresh=True)
                return
            eta = self._eta(done, total)
            words = f"epoch {done}/{total or '?'}  ETA {eta}  {values}"
            self._console.print(words, soft_wrap=True)

    def _eta(self, done: int, total: int | None) -> str:
        if total is None or done <= self._first:
            return "?"
        rate = (self._shown - self._begun) / (done - self._first)
        minutes, seconds = divmod(round(rate * (total - done)), 60)
        return f"{minutes}:{seconds:02d}"


def _raise() -> None:
    """Where nobody reads any more, rich ends the process; this is called in its handler."""
    raise


def _total(trainer: Trainer) -> int | None:
    return trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None


def _values(module: LightningModule) -> str:
    """The losses and accuracies that the module computed last, short enough for 80 columns."""
    latest: dict[str, float] = getattr(module, "latest_metrics", {})
    return "  ".join(
        f"{split} {latest[f'{split}_loss']:.2g} {latest[f'{split}_acc']:.0%}"
        for split in ("train", "test")
        if f"{split}_loss" in latest
    )
