"""Checkpoints at scheduled epochs, and the newest one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from grokscope.callbacks.checkpoint_io import writing_whole_files
from grokscope.callbacks.schedule import parse_schedule
from grokscope.store.checkpoint_files import LAST, scheduled
from grokscope.store.nofollow import open_regular
from grokscope.store.replacing import make_folder, remove_drafts, replacing
from grokscope.validation import require_float


class Checkpoints(Callback):
    """Saves ``epoch_<n>.ckpt`` (n passes done) at scheduled epochs and keeps ``last.ckpt``.

    There is no "best" one: grokking lives on the plateau of the test accuracy. A checkpoint is
    written beside its target, reaches the disk and gets its name then, so it is whole or not
    there, after a power cut too.

    Args:
        output_dir: Where the files go, usually ``<run folder>/checkpoints``.
        schedule: Epochs to keep; see :func:`~grokscope.callbacks.schedule.parse_schedule`.
            Not ``adaptive``, which follows losses that are not known here.
        last_every_seconds: Wall time between renewals of ``last.ckpt``; it is also
            written at the end.

    Raises:
        ValueError: For an argument out of range.
    """

    def __init__(
        self,
        output_dir: str | Path,
        schedule: Any = "log 5",
        last_every_seconds: float = 60.0,
    ) -> None:
        super().__init__()
        self.output_dir = Path(output_dir)
        self.schedule = parse_schedule("schedule.checkpoint", schedule)
        if not self.schedule.fixed:
            raise ValueError(
                "schedule.checkpoint must name epochs that are known in advance, "
                f"got {self.schedule}."
            )
        self.last_every_seconds = require_float("last_every_seconds", last_every_seconds, above=0)

    def next_due(self, epoch: int) -> int | None:
        """The pass after which the next scheduled checkpoint is saved."""
        due = self.schedule.next_due(epoch + 1)
        return None if due is None else due - 1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the checkpoint that the run goes on from its last one, before rows are dropped.

        Else a run that goes on from an earlier one, and is killed, would go on from a later one
        the next time, without the rows in between.
        """
        if not trainer.is_global_zero:
            return
        remove_drafts(self.output_dir, (".ckpt",), older_than=0)
        used, last = trainer.ckpt_path, self.output_dir / LAST
        if used is not None and not (last.exists() and last.samefile(used)):
            make_folder(self.output_dir)
            with open(open_regular(Path(used)), "rb") as source, replacing(last) as file:
                shutil.copyfileobj(source, file)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the initial weights if epoch 0 is scheduled; drop what a resumed run does anew."""
        self._saved = time.monotonic()
        if trainer.ckpt_path is not None:
            self._drop_later(trainer)
        elif trainer.current_epoch == 0 and self.schedule.due(0):
            self._save(trainer, "epoch_0.ckpt")

    def _drop_later(self, trainer: Trainer) -> None:
        """Checkpoints of passes whose rows are dropped; they may be of another course."""
        if trainer.is_global_zero:
            for passes, path in scheduled(self.output_dir.parent).items():
                if passes > trainer.current_epoch:
                    path.unlink()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what is due; ``last.ckpt`` when its time has come."""
        passes = trainer.current_epoch + 1
        if self.schedule.due(passes):
            self._save(trainer, f"epoch_{passes}.ckpt")
        if time.monotonic() - self._saved > self.last_every_seconds:
            self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Renew ``last.ckpt``, at the end of a pass."""
        self._save(trainer, LAST)
        self._saved = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run."""
        self.save_last(trainer)

    def _save(self, trainer: Trainer, name: str) -> None:
        with writing_whole_files(trainer.strategy):
            trainer.save_checkpoint(self.output_dir / name, weights_only=False)
