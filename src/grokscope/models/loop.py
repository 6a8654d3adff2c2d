"""The training loop of small models: many optimizer steps in one ``training_step``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.models.progress import advance_epochs, advance_steps
from grokscope.validation import require_choice

CALL_SECONDS = 0.25


@dataclass(frozen=True)
class Batch:
    """Samples of one optimizer step, or a whole split.

    Attributes:
        split: Inputs and targets on the device.
        loss_targets: The targets as the loss takes them.
        plan: Work that the net shares among these samples, if it can.
        weight: Share of this process in the batch times the number of processes.
    """

    split: Split
    loss_targets: Tensor
    plan: Any = None
    weight: float = 1.0

    def take(self, rows: Tensor | slice, weight: float = 1.0) -> Batch:
        """Some of the samples."""
        return Batch(self.split[rows], self.loss_targets[rows], weight=weight)


class Watcher(Protocol):
    """A callback that this loop calls itself in the passes that it wants.

    Lightning's hooks around a pass cost more than a small step, so they are left out for it.
    """

    def next_due(self, epoch: int) -> int | None:
        """The first epoch at or after ``epoch`` that it wants to see."""

    def observe_step(self, trainer: Trainer, epoch: int) -> None:
        """Called at each step of such a pass, after backward and before the update."""

    def observe_pass(self, trainer: Trainer) -> None:
        """Called at the end of such a pass."""


class PassLoopModule(LightningModule):
    """Runs passes over data that lies on the device, and counts them for Lightning.

    One call of ``training_step`` runs whole passes up to the next epoch in which a callback
    wants its hooks (it says so by ``next_due(epoch)``), at most about a quarter of a second. The
    last pass of a call runs with all hooks if it is due. A :class:`Watcher` is called directly
    instead and ends no call. Lightning's counters are advanced by the other passes, so
    ``trainer.current_epoch``, ``global_step`` and ``max_epochs`` mean passes and optimizer
    steps. With several processes, or ``steps_per_call="one"``, a call is one optimizer step.
    Both paths give bit-equal weights on a CPU.

    Args:
        steps_per_call: ``many`` or ``one``.
    """

    train_batch: Batch

    def __init__(self, steps_per_call: str = "many") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.steps_per_call = require_choice("steps_per_call", steps_per_call, ("many", "one"))
        self._rng: dict[str, Tensor] = {}

    def step(self, batch: Batch, hooked: bool, observe: Callable[[], None] | None = None) -> None:
        """One optimizer step; through Lightning's hooks if ``hooked``.

        ``observe`` is called after backward and before the update.
        """
        raise NotImplementedError

    @property
    def calls_watchers(self) -> bool:
        """Whether this loop calls watchers itself, so that they must not use Lightning's hooks."""
        return not self._one_step_a_call and not self._hooks_needed

    @property
    def data(self) -> TensorDataModule:
        """The task."""
        return cast(TensorDataModule, cast(Any, self.trainer).datamodule)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training data."""
        return self.data.steps_per_epoch

    @property
    def calls_per_epoch(self) -> int:
        """Calls of ``training_step`` that Lightning makes in an epoch of its loop."""
        return self.steps_per_epoch if self._one_step_a_call else 1

    def on_train_start(self) -> None:
        """Find out who wants which epochs; go on with the random numbers of a checkpoint."""
        callbacks = cast(Any, self.trainer).callbacks
        observers = [c for c in callbacks if callable(getattr(c, "next_due", None))]
        direct = [hasattr(c, "observe_step") and self.calls_watchers for c in observers]
        self._watchers = [c for c, is_direct in zip(observers, direct, strict=True) if is_direct]
        self._observers = [c for c in observers if c not in self._watchers]
        self._uncounted_steps = 0
        _restore_rng(self._rng)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random numbers (dropout)."""
        checkpoint["rng"] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            checkpoint["rng"]["cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` kept; take weights at their precision.

        Lightning copies the weights before it converts the module (``64-true``), and would
        round them on the way.
        """
        self._rng = checkpoint.get("rng", {})
        saved = checkpoint["state_dict"]
        for name, tensor in self.state_dict(keep_vars=True).items():
            if name in saved:
                tensor.data = tensor.data.to(saved[name].dtype)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Run optimizer steps up to the next epoch that somebody observes, or a single one."""
        if not self._one_step_a_call:
            self._passes()
            return
        if batch_idx == 0:
            self._batches = self._batches_of(self.trainer.current_epoch)
        self.step(self._shard(next(self._batches)), hooked=True)

    @property
    def _hooks_needed(self) -> bool:
        """Scaled gradients (float16) are unscaled by Lightning's wrapper only."""
        return isinstance(self.trainer.precision_plugin, MixedPrecision)

    @property
    def _one_step_a_call(self) -> bool:
        return self.steps_per_call == "one" or self.trainer.world_size > 1

    def _passes(self) -> None:
        first = epoch = self.trainer.current_epoch
        due = self._next_due(first)
        deadline = time.perf_counter() + CALL_SECONDS
        while epoch < due and time.perf_counter() < deadline and not self.trainer.should_stop:
            self._pass(epoch, self._hooks_needed)
            epoch += 1
        self._count_steps()
        advance_epochs(self.trainer, epoch - first)
        self._pass(epoch, self._hooks_needed or epoch == due)
        self._count_steps()

    def _next_due(self, epoch: int) -> float:
        """The next observed epoch, or the last one of the run."""
        due = (observer.next_due(epoch) for observer in self._observers)
        first = min((e for e in due if e is not None), default=float("inf"))
        stop = self.trainer.max_epochs
        return first if stop is None or stop < 0 else min(first, stop - 1)

    def _pass(self, epoch: int, hooked: bool) -> None:
        if watchers := [w for w in self._watchers if w.next_due(epoch) == epoch]:
            self._count_steps()
            self._watched_pass(epoch, hooked, watchers)
        else:
            for batch in self._batches_of(epoch):
                self.step(batch, hooked)
        if not hooked:
            self._uncounted_steps += self.steps_per_epoch

    def _watched_pass(self, epoch: int, hooked: bool, watchers: list[Watcher]) -> None:
        def observe() -> None:
            for watcher in watchers:
                watcher.observe_step(self.trainer, epoch)

        for batch in self._batches_of(epoch):
            self.step(batch, hooked, observe)
        for watcher in watchers:
            watcher.observe_pass(self.trainer)

    def _batches_of(self, epoch: int) -> Iterator[Batch]:
        if self.steps_per_epoch == 1:
            yield self.train_batch
            return
        for rows in self.data.batch_rows(epoch):
            yield self.train_batch.take(rows)

    def _shard(self, batch: Batch) -> Batch:
        """This process's share of a batch; the mean of all shares' gradients is the batch's."""
        world, samples = self.trainer.world_size, len(batch.split)
        if world == 1:
            return batch
        rows = slice(self.global_rank, None, world)
        return batch.take(rows, weight=len(range(samples)[rows]) * world / samples)

    def _count_steps(self) -> None:
        advance_steps(self.trainer, self._uncounted_steps)
        self._uncounted_steps = 0


def _restore_rng(state: dict[str, Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
