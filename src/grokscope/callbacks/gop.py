"""Measures gradient outer products while a network trains, and writes them down."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from grokscope.callbacks.gradient_buffer import GradientBuffer
from grokscope.callbacks.kinds import BatchKind, Kind, WeightKind
from grokscope.callbacks.losses import LossReader
from grokscope.callbacks.recorder import Found, Pass, Recorder, log_rows
from grokscope.callbacks.schedule import Schedule, parse_schedule
from grokscope.gradients.layout import gradient_layout, gradients_of
from grokscope.store.info import environment, update_info
from grokscope.validation import require_choice, require_float, require_int

KINDS = ("batch", "weight")
SCHEDULES = {"metrics": "every 1", "batch": "every 1", "weight": "log 20", "factor": "log 20"}
UNKNOWN_BATCHES = 64
QUEUE_BYTES = 2**24


class GOPCallback(Callback):
    """Gradient outer products, losses and accuracies of a training run, on disk and logged.

    Works in any Lightning project. The gradient is read after backward and before the
    optimizer step: the one that the step uses (after AMP unscaling and gradient accumulation,
    before clipping; with several optimizers, all gradients at the step of the first). Training
    is not disturbed: weights, optimizer state and losses are bit-equal without the callback.

    A row of epoch e describes the network after e passes: losses and accuracies there, and the
    gradients of the pass that follows. Losses come from the module's ``evaluation_metrics()``
    where it has one (see :class:`grokscope.models.GrokkingModule`), otherwise from what it
    returned and logged (:class:`grokscope.callbacks.losses.LossReader`).

    Args:
        kinds: Of ``batch`` and ``weight``; empty records losses only.
        schedule: When; one schedule for all, or a mapping with any of ``metrics`` (losses),
            ``batch``, ``weight``, ``factor`` (the gradient itself, from which ``Run.gop``
            rebuilds the matrix). A schedule is ``"every 10"``, ``"log 20"`` (a decade),
            ``"at 0 10 100"``, sums of these with ``+``, or an object of
            :mod:`grokscope.callbacks.schedule`. The default measures every epoch, and
            ``weight`` and ``factor`` 20 times a decade.
        top_k: Eigenvalues kept of a spectrum.
        rank_threshold: Eigenvalues below this share of the largest count as zero.
        output_dir: Run folder; default: the logger's, or the trainer's ``default_root_dir``.
        max_bytes: Memory for the gradients of one pass. With more mini-batches than fit,
            evenly spaced ones are used.
        on_nonfinite: ``warn`` (the row gets NaN) or ``raise`` at a NaN or Inf in a gradient.

    Raises:
        ValueError: For an argument out of range, or a schedule without an epoch in the run.
    """

    def __init__(
        self,
        kinds: Sequence[str] = KINDS,
        schedule: Mapping[str, Any] | Schedule | str | int | None = None,
        *,
        top_k: int = 100,
        rank_threshold: float = 1e-6,
        output_dir: str | Path | None = None,
        max_bytes: int = 2**30,
        on_nonfinite: str = "warn",
    ) -> None:
        super().__init__()
        if isinstance(kinds, str) or not isinstance(kinds, Sequence):
            raise ValueError(f"kinds must be a list of any of {', '.join(KINDS)}, got {kinds!r}.")
        self.kinds = tuple(require_choice("kinds", kind, KINDS) for kind in kinds)
        self.schedules = _schedules(schedule, self.kinds)
        self.top_k = require_int("top_k", top_k)
        self.rank_threshold = require_float("rank_threshold", rank_threshold, minimum=0, below=1)
        self.max_bytes = require_int("max_bytes", max_bytes)
        self.on_nonfinite = require_choice("on_nonfinite", on_nonfinite, ("warn", "raise"))
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._kinds: list[Kind] = []
        self._previous: torch.Tensor | None = None
        self._recorder: Recorder | None = None
        self._open: tuple[int, int] | None = None
        self._queue: list[Pass] = []
        self._warned = False

    def next_due(self, epoch: int) -> int | None:
        """The first epoch at or after ``epoch`` in which this callback wants the hooks."""
        due = (schedule.next_due(epoch) for schedule in self.schedules.values())
        return min((e for e in due if e is not None), default=None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse schedules that never come, before training begins."""
        if stage != "fit":
            return
        self._layout = gradient_layout(pl_module.named_parameters())
        self.check_schedules(trainer)

    def check_schedules(self, trainer: Trainer) -> None:
        """Refuse a schedule that has no epoch in the run.

        Raises:
            ValueError: Naming the schedule.
        """
        stop = _last_epoch(trainer)
        for name, schedule in self.schedules.items():
            if stop is not None and ((first := schedule.next_due(0)) is None or first >= stop):
                raise ValueError(
                    f"schedule.{name} must have an epoch before max_epochs={stop}, got {schedule}."
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the run's files; a resumed run drops the rows after its checkpoint."""
        self._started, self._seconds = time.perf_counter(), 0.0
        self._losses = LossReader(pl_module)
        self._parameters = [p for p in pl_module.parameters() if p.requires_grad]
        self._dtype = self._parameters[0].dtype
        self._buffer = GradientBuffer(self._rows_kept(trainer, pl_module, self._dtype.itemsize))
        self._kinds = self._make_kinds()
        if not trainer.is_global_zero:
            return
        if self.output_dir is None:
            self.output_dir = Path(trainer.log_dir or trainer.default_root_dir)
        self._recorder = Recorder(
            self.output_dir,
            self._kinds,
            self.schedules,
            self._layout,
            n_rows=self._buffer.n_rows,
            dtype=self._dtype,
            extra=self._losses.extra,
            start=trainer.current_epoch,
            stop=_last_epoch(trainer),
            resume=trainer.ckpt_path is not None,
        )
        update_info(self.output_dir, status="running", device=str(pl_module.device))
        update_info(self.output_dir, error=None, **environment())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradient, unless the module calls :meth:`observe_step` itself."""
        first = getattr(optimizer, "optimizer", optimizer) is trainer.optimizers[0]
        if first and not getattr(pl_module, "calls_watchers", False):
            self.observe_step(trainer, trainer.current_epoch)

    def observe_step(self, trainer: Trainer, epoch: int) -> None:
        """Take the gradient, and at the first step of a pass the losses."""
        if self._recorder is None or self.next_due(epoch) != epoch:
            return
        begun = time.perf_counter()
        if self._open is None:
            self._open = epoch, trainer.global_step
            self._buffer.clear()
            if self.schedules["metrics"].due(epoch):
                self._losses.start()
        if any(s.due(epoch) for name, s in self.schedules.items() if name != "metrics"):
            self._buffer.add(gradients_of(self._parameters))
        self._seconds += time.perf_counter() - begun

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember the loss of a module that only returns it."""
        if self._open is not None and self.schedules["metrics"].due(self._open[0]):
            self._losses.add(outputs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the row of the pass if it is still open; measure and write what waits."""
        self.observe_pass(trainer)
        self._flush(trainer)

    def observe_pass(self, trainer: Trainer) -> None:
        """Close the row of the pass that has ended.

        Rows wait for each other, up to ``QUEUE_BYTES`` of gradients or the end of Lightning's
        epoch (a quarter of a second): measured one after the other they cost half of what they
        cost between training steps, which leave the processor's caches cold.
        """
        if self._open is None or self._recorder is None:
            return
        (epoch, step), self._open = self._open, None
        losses = self._losses.finish(trainer) if self.schedules["metrics"].due(epoch) else {}
        gradients = self._buffer.rows() if self._buffer.seen else None
        self._queue.append(Pass(epoch, step, losses, gradients))
        if gradients is not None and len(self._queue) * gradients.nbytes > QUEUE_BYTES:
            self._flush(trainer)

    def _flush(self, trainer: Trainer) -> None:
        """Measure and write the rows that wait."""
        if self._recorder is None or not self._queue:
            return
        begun = time.perf_counter()
        queue, self._queue = self._queue, []
        found = self._measure(queue)
        self._recorder.write(queue, found)
        log_rows(trainer, queue, found)
        self._seconds += time.perf_counter() - begun
        if "batch" in found:
            self._report_nonfinite(queue, found["batch"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the closing row (losses after the last pass) and compress the files."""
        if self._recorder is None:
            return
        if losses := self._losses.now():
            closing = [Pass(trainer.current_epoch, trainer.global_step, losses)]
            self._recorder.write(closing, {})
            log_rows(trainer, closing, {})
        self._recorder.writer.finalise()
        stop = _last_epoch(trainer)
        complete = stop is None or trainer.current_epoch >= stop
        self._end("finished" if complete else "stopped")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the rows that wait, unless that is what failed; the files stay as they are."""
        if self._recorder is not None:
            with suppress(Exception):
                self._flush(trainer)
            self._recorder.writer.close()
            interrupted = isinstance(exception, KeyboardInterrupt)
            self._end("stopped" if interrupted else "failed", error=repr(exception))

    def state_dict(self) -> dict[str, Any]:
        """The last measured gradients in their own precision, for the overlap with the next."""
        batch = next((kind for kind in self._kinds if isinstance(kind, BatchKind)), None)
        previous = None if batch is None else batch.previous
        return {"previous": previous if previous is None else previous.to(self._dtype)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._previous = state_dict["previous"]

    def _rows_kept(self, trainer: Trainer, module: LightningModule, itemsize: int) -> int:
        """Mini-batch gradients kept of a pass, within ``max_bytes``."""
        batches = getattr(module, "steps_per_epoch", None)
        if batches is None:
            batches = trainer.num_training_batches / trainer.accumulate_grad_batches
            batches = math.ceil(batches) if math.isfinite(batches) else UNKNOWN_BATCHES
        return max(1, min(batches, self.max_bytes // (self._layout.size * itemsize)))

    def _make_kinds(self) -> list[Kind]:
        def batch() -> Kind:
            rows, settings = self._buffer.n_rows, (self.top_k, self.rank_threshold)
            return BatchKind(self._layout, rows, *settings, previous=self._previous)

        def weight() -> Kind:
            return WeightKind(self._layout, self.top_k, self.rank_threshold)

        make = {"batch": batch, "weight": weight}
        return [make[name]() for name in self.kinds]

    def _measure(self, passes: Sequence[Pass]) -> dict[str, Found]:
        """What is due at each of the passes, those of a kind together."""
        found = {}
        for kind in self._kinds:
            due = self.schedules[kind.name].due
            wanted = {
                i: p.gradients
                for i, p in enumerate(passes)
                if p.gradients is not None and due(p.epoch)
            }
            if wanted:
                measurement = kind.measure(list(wanted.values()))
                found[kind.name] = Found(list(wanted), measurement)
        return found

    def _report_nonfinite(self, passes: Sequence[Pass], batch: Found) -> None:
        finite = np.isfinite(batch.measurement.layers["trace"])
        if finite.all():
            return
        row = int(np.argmin(finite.all(axis=1)))
        layer = self._layout.layers[int(np.argmin(finite[row]))]
        message = (
            f"epoch {passes[batch.rows[row]].epoch}: the gradient of layer '{layer}' is not "
            "finite; its row holds NaN."
        )
        if self.on_nonfinite == "raise":
            raise FloatingPointError(message)
        if not self._warned:
            warnings.warn(f"{message} Further ones are not reported.", stacklevel=2)
        self._warned = True

    def _end(self, status: str, **entries: Any) -> None:
        assert self.output_dir is not None
        entries["wall_seconds"] = round(time.perf_counter() - self._started, 3)
        entries["measure_seconds"] = round(self._seconds, 3)
        update_info(self.output_dir, status=status, **entries)
        self._recorder = None


def _last_epoch(trainer: Trainer) -> int | None:
    """Passes of the whole run; None where the trainer counts steps only."""
    return trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None


def _schedules(value: Any, kinds: tuple[str, ...]) -> dict[str, Schedule]:
    """Setting -> schedule for the losses, the kinds that are on, and the factor."""
    names = ("metrics", *kinds, *(("factor",) if "batch" in kinds else ()))
    given = value if isinstance(value, Mapping) else dict.fromkeys(SCHEDULES, value)
    for name in given:
        require_choice("schedule", name, SCHEDULES)
    chosen = SCHEDULES | {name: s for name, s in given.items() if s is not None}
    return {name: parse_schedule(f"schedule.{name}", chosen[name]) for name in names}
