"""Gradient outer products at whatever weights a module has, without training."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grokscope.callbacks.batch_kind import BatchKind
from grokscope.callbacks.gradient_buffer import GradientBuffer
from grokscope.callbacks.kinds import Kind, WeightKind
from grokscope.callbacks.measurement import Measurement, Recorded
from grokscope.callbacks.probing import Probing
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.gradients.layout import gradient_layout, gradients_of

if TYPE_CHECKING:
    from grokscope.callbacks.measure_settings import MeasureSettings


class Meter:
    """Measures a module at whatever weights it has.

    ``batch`` and ``weight`` are those of the gradient that a full-batch step would use at these
    weights, penalties included. With mini-batches they are those of the mini-batches of the pass
    that follows, all at these weights: in training the weights move within a pass.

    Args:
        module: A GrokkingModule, its data prepared on its device.
        data: What it learns, a TensorDataModule.
        settings: What is measured, and how.
        mixed: Whether the forward pass is in mixed precision (bfloat16).

    Raises:
        ValueError: If the module lacks what a kind needs.
    """

    def __init__(
        self,
        module: Any,
        data: Any,
        settings: MeasureSettings,
        mixed: bool = False,
    ) -> None:
        self.module, self.data, self._mixed = module.train(), data, mixed
        self.names, self.on_nonfinite = frozenset(settings.kinds), settings.on_nonfinite
        self.layout = gradient_layout(module.named_parameters())
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self.dtype = next(module.parameters()).dtype
        row_bytes = max(1, self.layout.size) * self.dtype.itemsize
        self.n_rows = max(1, min(data.steps_per_epoch, settings.max_bytes // row_bytes))
        spectra = settings.top_k, settings.rank_threshold
        make: dict[str, Any] = {
            "batch": lambda: BatchKind(self.layout, self.n_rows, *spectra),
            "weight": lambda: WeightKind(self.layout, *spectra),
        }
        self.from_gradients: list[Kind] = [make[n]() for n in settings.kinds if n in make]
        self._probing = Probing(
            module,
            settings.kinds,
            settings.probe,
            (*spectra, settings.max_bytes),
            settings.centered,
        )

    @property
    def kinds(self) -> list[Recorded]:
        """Everything that is measured."""
        return [*self.from_gradients, *self._probing.kinds]

    def measure(self, epoch: int, clock: Stopwatch) -> dict[str, Measurement]:
        """Measure at the present weights, which are those after ``epoch`` passes."""
        with self.precision():
            gradients = self._gradients(epoch) if self.from_gradients else None
            found = self._probing.measure(self.names, clock)
        if gradients is not None:
            found |= {kind.name: kind.measure([gradients]) for kind in self.from_gradients}
        return found

    def precision(self) -> AbstractContextManager[Any]:
        """That of the forward pass."""
        if not self._mixed:
            return nullcontext()
        device = self.module.device.type
        return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)

    def _gradients(self, epoch: int) -> Tensor:
        buffer = GradientBuffer(self.n_rows)
        for batch in self._batches(epoch):
            self.module.zero_grad()
            self.module.objective(batch).backward()
            buffer.add(gradients_of(self._parameters))
        self.module.zero_grad()
        return buffer.rows()

    def _batches(self, epoch: int) -> Iterable[Any]:
        whole = self.module.train_batch
        if self.data.steps_per_epoch == 1:
            return [whole]
        return (whole.take(rows) for rows in self.data.batch_rows(epoch))
