"""What a run is asked to measure, before it has begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule

from grokscope.callbacks.batch_kind import BatchKind
from grokscope.callbacks.detection import make_detector
from grokscope.callbacks.kinds import (
    Kind,
    TrajectoryKind,
    WeightKind,
    require_window_bytes,
)
from grokscope.callbacks.losses import LossReader
from grokscope.callbacks.measurement import Expected
from grokscope.callbacks.noise_floor import NOISE, require_float64_data, with_noise_floor
from grokscope.callbacks.probe import Given, require_probe, require_source
from grokscope.callbacks.probe_kinds import OVERLAP_K, PROBE_KINDS
from grokscope.callbacks.progress_measures import ProgressMeasure, ProgressMeasures
from grokscope.callbacks.recorder import planned_tables, view_parts
from grokscope.callbacks.schedule import Schedule
from grokscope.callbacks.timetable import parse_schedules
from grokscope.gradients.layout import GradientLayout, gradient_layout
from grokscope.store.disk import Part
from grokscope.store.run_writer import SYNC_SECONDS
from grokscope.validation import require_bool, require_choice, require_float, require_int

KINDS = ("batch", "weight", "trajectory", "sample", "input")


class MeasureSettings(Callback):
    """Kinds, schedules and limits of the measures, checked, and what they will store."""

    def __init__(
        self,
        kinds: Sequence[str] = ("batch", "weight"),
        schedule: Mapping[str, Any] | Schedule | str | int | None = None,
        *,
        top_k: int = 100,
        rank_threshold: float = 1e-6,
        output_dir: str | Path | None = None,
        max_bytes: int = 2**30,
        on_nonfinite: str = "warn",
        trajectory_window: int = 20,
        probe: Given = None,
        centered: bool = False,
        thresholds: Mapping[str, float] | None = None,
        patience: int = 0,
        progress: Mapping[str, ProgressMeasure] | None = None,
        dense: bool = False,
        noise_floor: bool = False,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        """Check them.

        Args:
            kinds: Of ``batch``, ``weight``, ``trajectory``, ``sample`` and ``input``; empty
                records losses only.
            schedule: When; one schedule for all, or a mapping with any of ``metrics`` (losses),
                the kinds, ``factor`` (the gradient itself, from which ``Run.gop`` rebuilds the
                matrix). A schedule is ``"every 10"``, ``"log 20"`` (a decade), ``"at 0 10 100"``,
                ``"adaptive"`` (dense while the test curves move), sums of these with ``+``, or an
                object of :mod:`grokscope.callbacks.schedule`. The default measures every epoch,
                ``trajectory`` every tenth; ``weight`` and ``factor`` 20 times a decade, ``sample``
                10 times, ``input`` 3 times.
            top_k: Eigenvalues kept of a spectrum.
            rank_threshold: Eigenvalues below this share of the largest count as zero.
            output_dir: Run folder; default: the logger's, or the trainer's ``default_root_dir``.
            max_bytes: Memory for the gradients of one pass, again for those of the trajectory, and
                again for the factors of ``sample``. With more mini-batches than fit, evenly spaced
                ones are used.
            on_nonfinite: ``warn`` (the row gets NaN) or ``raise`` at a NaN or Inf in a gradient.
            trajectory_window: Gradients in the mean of the kind ``trajectory``.
            probe: Where ``sample`` and ``input`` are measured: a number of training samples
                (default 1,000), (inputs, targets), or a
                :class:`~grokscope.callbacks.probe.Probe`. See
                :func:`~grokscope.callbacks.probe.find_probe` for what the module must offer.
            centered: ``sample`` is the covariance of the per-sample gradients.
            thresholds: ``train`` and ``test`` accuracy that count as memorised and generalised;
                0.99 where not given.
            patience: Epochs for which they have to stay there.
            progress: Name -> a measure of this family of experiments, at its own schedule
                (:class:`~grokscope.callbacks.ProgressMeasure`).
            dense: Finished files also hold the dense matrices of the epochs of ``factor``, M²
                numbers each (docs/files.md). :meth:`forecast` says how much that is.
            noise_floor: Everything is measured once more in float64; the difference is stored
                beside it (:mod:`grokscope.callbacks.noise_floor`).
            sync_seconds: Rows reach the disk at least so often, and before each checkpoint; a
                power cut costs those since. A kill of the process costs none.

        Raises:
            ValueError: For an argument out of range, or a schedule without an epoch in the run.
        """
        if isinstance(kinds, str) or not isinstance(kinds, Sequence):
            raise ValueError(f"kinds must be a list of any of {', '.join(KINDS)}, got {kinds!r}.")
        self.kinds = tuple(require_choice("kinds", kind, KINDS) for kind in kinds)
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds must hold each kind once, got {', '.join(self.kinds)}.")
        self.noise_floor = require_bool("noise_floor", noise_floor)
        self.progress = ProgressMeasures(progress, (*KINDS, NOISE))
        if noise_floor:
            self.progress.given = with_noise_floor(self.progress.given, self)
        self.schedules = parse_schedules(schedule, self.kinds) | self.progress.schedules
        self.top_k = require_int("top_k", top_k)
        self.rank_threshold = require_float("rank_threshold", rank_threshold, minimum=0, below=1)
        self.max_bytes = require_int("max_bytes", max_bytes)
        self.on_nonfinite = require_choice("on_nonfinite", on_nonfinite, ("warn", "raise"))
        self.trajectory_window = require_int("trajectory_window", trajectory_window)
        self.probe, self.centered = require_probe(probe), centered
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._first_detector = make_detector(thresholds, patience)
        self.sync_seconds = require_float("sync_seconds", sync_seconds, above=0)
        self.dense = _require_dense(dense, self.kinds)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """What a run changes, as before it begins."""

    def check_module(self, module: LightningModule) -> None:
        """Refuse a module that these settings cannot measure.

        Raises:
            ValueError: With kinds but without a trainable parameter, with too many for
                ``trajectory_window``, or without what the probe needs.
        """
        trainable = any(parameter.requires_grad for parameter in module.parameters())
        if not trainable and self.kinds:
            raise ValueError(
                "kinds must be empty for a module without a parameter that requires a gradient, "
                f"got {', '.join(self.kinds)}."
            )
        named = module.named_parameters()
        self._layout = gradient_layout(named) if trainable else GradientLayout(())
        if not PROBE_KINDS.isdisjoint(self.kinds):
            require_source(module, self.probe)
        if self.noise_floor:
            require_float64_data(module)
        if "trajectory" in self.kinds:
            size = self._layout.size
            require_window_bytes(self.trajectory_window, size, self.max_bytes)

    def forecast(
        self, module: LightningModule, stop: int, steps_per_epoch: int, dtype: torch.dtype
    ) -> list[Part]:
        """What ``stop`` passes store at most, table by table, for gradients of this dtype."""
        self.check_module(module)
        n_rows = self._rows_within(steps_per_epoch, dtype.itemsize)
        kinds = [*self._make_kinds(n_rows), *self._expected_probe_kinds()]
        settings: dict[str, Any] = {"n_rows": n_rows, "dtype": dtype}
        settings["extra"] = LossReader(module).extra
        settings["progress"] = self.progress.tables(module)
        planned = planned_tables(kinds, self.schedules, self._layout, **settings)
        views = view_parts(planned, stop, self._dense_top_k)
        return [*(table.part(stop) for table in planned), *views]

    def state_bytes(self, steps_per_epoch: int, dtype: torch.dtype) -> int:
        """Most bytes of a module that was checked that this callback adds to a checkpoint."""
        layout = self._layout
        window, slots = self.trajectory_window, len(layout.slots)
        n_rows = self._rows_within(steps_per_epoch, dtype.itemsize)
        needed = {
            "batch": n_rows * layout.size * dtype.itemsize,
            "trajectory": 8 * window * (layout.size + slots * window),
            "sample": 4 * OVERLAP_K * layout.size,
        }
        return sum(needed.get(kind, 0) for kind in self.kinds)

    @property
    def _dense_top_k(self) -> int | None:
        """Eigenvectors beside dense matrices; None is no dense matrices."""
        return self.top_k if self.dense else None

    def _rows_within(self, batches: int, itemsize: int) -> int:
        size = max(1, self._layout.size)
        return max(1, min(batches, self.max_bytes // (size * itemsize)))

    def _expected_probe_kinds(self) -> list[Expected]:
        """Kinds at the probe by their largest sizes; their samples come with training."""
        n_samples = self.probe if isinstance(self.probe, int) else self.top_k
        width = {"sample": min(self.top_k, n_samples), "input": self.top_k}
        layers = self._layout.layers
        return [Expected(name, layers, width[name]) for name in self.kinds if name in width]

    def _make_kinds(self, n_rows: int) -> list[Kind]:
        layout, settings = self._layout, (self.top_k, self.rank_threshold)
        make: dict[str, Callable[[], Kind]] = {
            "batch": lambda: BatchKind(layout, n_rows, *settings),
            "weight": lambda: WeightKind(layout, *settings),
            "trajectory": lambda: TrajectoryKind(layout, self.trajectory_window, *settings),
        }
        return [make[name]() for name in self.kinds if name in make]


def _require_dense(dense: bool, kinds: tuple[str, ...]) -> bool:
    if require_bool("dense", dense) and "batch" not in kinds:
        raise ValueError(f"dense must be false without the kind batch, got {dense!r}.")
    return dense
