"""Tells Lightning about passes and steps that ran inside one ``training_step``.

Lightning counts one epoch a run of its epoch loop and the optimizer steps that went through its
wrapper. Two functions here add the others to the same counters, so that checkpoints,
``max_epochs`` and every callback see true numbers. They touch ``trainer.fit_loop``'s progress
trackers, which are not public; ``tests/models/test_loop.py`` holds them to Lightning's own
counting. A third lets it end a run that has no pass left.
"""

from __future__ import annotations

from typing import Any

from lightning import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop


def advance_epochs(trainer: Trainer, epochs: int) -> None:
    """Count passes that are over, during a running epoch."""
    progress = trainer.fit_loop.epoch_progress
    for tracker in (progress.total, progress.current):
        _add(tracker, ("ready", "started", "processed", "completed"), epochs)


def advance_steps(trainer: Trainer, steps: int) -> None:
    """Count optimizer steps that did not go through Lightning's wrapper."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        _add(tracker, ("ready", "completed"), steps)


class _OnlyTheEnd(_FitLoop):
    """Calls the hooks of the start and of the end where no pass is left between them."""

    @property
    def skip(self) -> bool:
        return False


def end_without_passes(trainer: Trainer) -> None:
    """Let ``fit`` end a run whose checkpoint has all passes; Lightning would do nothing."""
    old = trainer.fit_loop
    trainer.fit_loop = _OnlyTheEnd(trainer, old.min_epochs, old.max_epochs)
    trainer.fit_loop.epoch_loop = old.epoch_loop


def _add(tracker: Any, names: tuple[str, ...], count: int) -> None:
    for name in names:
        setattr(tracker, name, getattr(tracker, name) + count)
