"""Measures gradient outer products while a network trains, and writes them down."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.optim import Optimizer

from grokscope.callbacks.csv_logger import CSVLogger
from grokscope.callbacks.events import Announcer, replayed
from grokscope.callbacks.gradient_buffer import GradientBuffer
from grokscope.callbacks.kinds import (
    Kind,
)
from grokscope.callbacks.losses import LossReader
from grokscope.callbacks.measure_settings import MeasureSettings
from grokscope.callbacks.measurement import Recorded
from grokscope.callbacks.nonfinite import NonfiniteReport
from grokscope.callbacks.probing import Probing
from grokscope.callbacks.recorder import Pass, Recorder
from grokscope.callbacks.stop import Preempted
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.callbacks.timetable import Timetable, check_epochs
from grokscope.callbacks.waiting import WaitingRows
from grokscope.gradients.layout import gradients_of
from grokscope.store.disk import Growth, failure, folder_bytes
from grokscope.store.info import environment, read_info, update_info

FROM_GRADIENTS = frozenset({"batch", "weight", "trajectory", "factor"})
UNKNOWN_BATCHES = 64


class GOPCallback(MeasureSettings):
    """Gradient outer products, losses and accuracies of a training run, on disk and logged.

    Works in any Lightning project. The gradient is read after backward and before the
    optimizer step: the one that the step uses (after AMP unscaling and gradient accumulation,
    before clipping; with several optimizers, all gradients at the step of the first). Training
    is not disturbed: weights, optimizer state and losses are bit-equal without the callback.

    A row of epoch e describes the network after e passes: losses and accuracies there, and the
    gradients of the pass that follows. Losses come from the module's ``evaluation_metrics()``
    where it has one (see :class:`grokscope.models.GrokkingModule`), otherwise from what it
    returned and logged (:class:`grokscope.callbacks.losses.LossReader`).

    When the accuracies show that the run has memorised, begins to generalise and has
    generalised (:class:`~grokscope.callbacks.detection.Detector`), it says so in the log, in
    ``run.json`` and through loggers that can alert.

    The arguments are those of :class:`~grokscope.callbacks.measure_settings.MeasureSettings`.
    """

    def _begin_anew(self) -> None:
        """Forget earlier rows; a resumed run gets them back from its checkpoint."""
        self._timetable = Timetable(self.schedules)
        self._detector = self._first_detector
        self._rows: WaitingRows | None = None
        self._kinds: list[Kind] = []
        self._probing: Probing | None = None
        self._kind_states: dict[str, Any] = {}
        self._open: Pass | None = None
        self._first_epoch: int | None = None  # of a run whose files are not open yet

    def next_due(self, epoch: int) -> int | None:
        """The first epoch at or after ``epoch`` in which this callback wants the hooks."""
        return self._timetable.next_due(epoch)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse schedules that never come, before training begins."""
        if stage != "fit":
            return
        self._begin_anew()
        self.check_module(pl_module)
        self.check_schedules(trainer)

    def check_schedules(self, trainer: Trainer) -> None:
        """Refuse a schedule that has no epoch in the run.

        Raises:
            ValueError: Naming the schedule.
        """
        check_epochs(self.schedules, _last_epoch(trainer))
        followed = self.schedules.get("sample")
        if trainer.world_size > 1 and followed is not None and not followed.fixed:
            raise ValueError(
                f"schedule.sample must not be adaptive with several processes, got {followed}."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get ready; no file is touched while another callback may still end the run here."""
        self._started, self._clock = time.perf_counter(), Stopwatch()
        self._losses = LossReader(pl_module)
        self._parameters = [p for p in pl_module.parameters() if p.requires_grad]
        known = [*self._parameters, *pl_module.parameters()]
        self._dtype = known[0].dtype if known else torch.float32
        self._buffer = GradientBuffer(self._rows_kept(trainer, pl_module, self._dtype.itemsize))
        self._kinds = self._make_kinds(self._buffer.n_rows)
        settings = self.top_k, self.rank_threshold, self.max_bytes
        self._probing = Probing(pl_module, self.kinds, self.probe, settings, self.centered)
        self._part_in = -1
        if trainer.is_global_zero:
            for kind in self._all_kinds:
                if state := self._kind_states.pop(kind.name, None):
                    kind.restore(state)
            self._first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the files at the first pass; a resumed run drops rows after its checkpoint."""
        if self._first_epoch is not None:
            self._open_files(trainer, pl_module, self._first_epoch)
            self._first_epoch = None

    @property
    def _all_kinds(self) -> list[Recorded]:
        return [*self._kinds, *(self._probing.kinds if self._probing else ())]

    def _open_files(self, trainer: Trainer, module: LightningModule, start: int) -> None:
        if self.output_dir is None:
            self.output_dir = Path(trainer.log_dir or trainer.default_root_dir)
        resume = trainer.ckpt_path is not None
        tables = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        for logger in tables if resume else ():
            logger.check()  # before anything is touched
        recorder = Recorder(
            self.output_dir,
            self._all_kinds,
            self.schedules,
            self._layout,
            n_rows=self._buffer.n_rows,
            dtype=self._dtype,
            extra=self._losses.extra,
            progress=self.progress.tables(module),
            start=start,
            stop=_last_epoch(trainer),
            resume=resume,
            dense_top_k=self._dense_top_k,
            sync_seconds=self.sync_seconds,
        )
        try:
            self._rows = self._begin_rows(trainer, module, recorder, start)
        except BaseException:
            recorder.writer.close()
            raise

    def _begin_rows(
        self, trainer: Trainer, module: LightningModule, recorder: Recorder, start: int
    ) -> WaitingRows:
        """Note that the run goes on; drop what it does anew from its other tables."""
        assert self.output_dir is not None
        resume = trainer.ckpt_path is not None
        self._growth = Growth(self.output_dir)
        self._before = read_info(self.output_dir) if resume else {}
        update_info(self.output_dir, status="running", device=str(module.device))
        clock = {"started": time.time(), "started_epoch": start}
        update_info(self.output_dir, error=None, **clock, **environment())
        if resume and self._detector is self._first_detector:  # no state, or other thresholds
            self._detector = replayed(self._detector, self.output_dir)
        loggers, detector = list(trainer.loggers), self._detector
        for logger in loggers if resume else ():
            if isinstance(logger, CSVLogger):
                logger.begin(start)
        announcer = Announcer(self.output_dir, loggers, detector, resume)
        report = NonfiniteReport(self.on_nonfinite)
        watches = announcer, report, self._clock
        return WaitingRows(recorder, loggers, self._kinds, detector, *watches)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradient, unless the module calls :meth:`observe_step` itself."""
        first = getattr(optimizer, "optimizer", optimizer) is trainer.optimizers[0]
        if first and not getattr(pl_module, "calls_watchers", False):
            self.observe_step(trainer, trainer.current_epoch)

    def observe_step(self, trainer: Trainer, epoch: int) -> None:
        """Take the gradient, and at the first step of a pass the losses."""
        if self._rows is None:
            self._take_part(epoch)
            return
        if self._open is None and self.next_due(epoch) != epoch:
            return
        if self._open is None:
            due = self._timetable.due(epoch)
            probed = self._probing.measure(due, self._clock) if self._probing else {}
            progress = self.progress.measure(trainer.lightning_module, due, self._clock)
            self._open = Pass(epoch, trainer.global_step, {}, None, due, probed, progress)
            self._buffer.clear()
            if self._open.wants("metrics"):
                with self._clock("metrics"):
                    self._losses.start()
        if not FROM_GRADIENTS.isdisjoint(self._open.due or ()):
            with self._clock("gradients"):
                self._buffer.add(gradients_of(self._parameters))

    def _take_part(self, epoch: int) -> None:
        """In a process that writes nothing: give its samples' share, once a pass."""
        if epoch != self._part_in and self._probing is not None:
            self._part_in = epoch
            self._probing.measure(self._timetable.due(epoch), self._clock)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember the loss of a module that only returns it."""
        if self._open is not None and self._open.wants("metrics"):
            self._losses.add(outputs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the row of the pass if it is still open; measure and write what waits."""
        self.observe_pass(trainer)
        if self._rows is not None:
            self._rows.flush()
            self._growth.report()

    def observe_pass(self, trainer: Trainer) -> None:
        """Close the row of the pass that has ended; what is due next is decided here."""
        if self._open is None or self._rows is None:
            return
        row, self._open = self._open, None
        with self._clock("metrics"):
            losses = self._losses.finish(trainer) if row.wants("metrics") else {}
            if losses:
                self._timetable.observe(row.epoch, losses)
        with self._clock("gradients"):
            gradients = self._buffer.rows() if self._buffer.seen else None
        self._rows.add(replace(row, losses=losses, gradients=gradients))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the closing row (losses after the last pass) and compress the files."""
        self.on_train_epoch_start(trainer, pl_module)  # a run of which only the end was missing
        if self._rows is None:
            return
        losses, clock = self._losses.now(), (trainer.current_epoch, trainer.global_step)
        self._rows.finish(Pass(*clock, losses) if losses else None)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note how the run has ended, once everything else has: the last checkpoint too."""
        if stage == "fit" and self._rows is not None:
            stop = _last_epoch(trainer)
            complete = stop is None or trainer.current_epoch >= stop
            self._end("finished" if complete else "stopped")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the rows that wait, unless that is what failed; the files stay as they are."""
        if self._rows is not None:
            self._rows.abandon()
            with suppress(OSError, ValueError):  # what ended the run is the error to raise
                self._end(*_ending(exception))

    def state_dict(self) -> dict[str, Any]:
        """What later rows depend on: the kinds' memory, adaptive schedules, events so far."""
        if self._rows is not None:
            self._rows.settle()
        return {
            "rows": self._rows.saved if self._rows else {},
            "kinds": {kind.name: kind.state() for kind in self._all_kinds},
            "progress": self.progress.state(),
            "schedules": self._timetable.state(),
            "detector": (self._rows.detector if self._rows else self._detector).state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._kind_states = state_dict.get("kinds", {})
        self.progress.restore(state_dict.get("progress", {}))
        self._timetable.restore(state_dict.get("schedules", {}))
        self._detector = self._detector.restored(state_dict.get("detector"))

    def _rows_kept(self, trainer: Trainer, module: LightningModule, itemsize: int) -> int:
        """Mini-batch gradients kept of a pass, within ``max_bytes``."""
        batches = getattr(module, "steps_per_epoch", None)
        if batches is None:
            batches = trainer.num_training_batches / trainer.accumulate_grad_batches
            batches = math.ceil(batches) if math.isfinite(batches) else UNKNOWN_BATCHES
        return self._rows_within(batches, itemsize)

    def _end(self, status: str, error: str | None = None) -> None:
        assert self.output_dir is not None
        assert self._rows is not None
        entries: dict[str, Any] = {"error": error}
        entries |= _added(self._before, time.perf_counter() - self._started, self._clock)
        entries["disk_bytes"] = folder_bytes(self.output_dir)
        self._detector, self._rows = self._rows.detector, None
        update_info(self.output_dir, status=status, **entries)


def _ending(exception: BaseException) -> tuple[str, str | None]:
    """The status of a run that this ended, and the error if it is one."""
    if isinstance(exception, Preempted):
        return exception.status, None
    if isinstance(exception, (KeyboardInterrupt, SystemExit)):
        return "stopped", None
    return failure(exception), repr(exception)


def _added(before: dict[str, Any], wall: float, clock: Stopwatch) -> dict[str, Any]:
    """Seconds of a run with those of the processes that began it; a killed one told none."""
    given = before.get("seconds_by_measure")
    shares = given if isinstance(given, dict) else {}
    names = dict.fromkeys([*shares, *clock.seconds])
    found = {name: _number(shares, name) + clock.seconds.get(name, 0.0) for name in names}
    return {
        "wall_seconds": round(_number(before, "wall_seconds") + wall, 3),
        "measure_seconds": round(_number(before, "measure_seconds") + clock.total, 3),
        "seconds_by_measure": {name: round(seconds, 3) for name, seconds in found.items()},
    }


def _number(entries: dict[str, Any], name: str) -> float:
    """Of ``run.json``, which may be anybody's; 0 for what is none."""
    value = entries.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _last_epoch(trainer: Trainer) -> int | None:
    """Passes of the whole run; None where the trainer counts steps only."""
    return trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
