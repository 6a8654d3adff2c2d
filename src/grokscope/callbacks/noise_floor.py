"""How much of a measure is rounding: the same once more in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning import LightningModule

from grokscope.callbacks.meter import Meter
from grokscope.callbacks.progress_measures import ProgressMeasure, undisturbed
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.measures.spectra import METRICS

if TYPE_CHECKING:
    from grokscope.callbacks.measure_settings import MeasureSettings

NOISE = "noise_floor"
AGAIN = ("batch", "weight", "sample", "input")
DATA = ("train_batch", "test_batch", "recorded_train", "extra_batches", "live_step")


class WithNoise(ProgressMeasure):
    """A measure, and each of its columns minus its value in float64, as ``<column>_noise``.

    The measure in float64 is one of its own, which remembers its own earlier rows. Weights and
    data are those of the run, taken as float64 numbers; whatever reads the step under way gets
    one on all training samples instead.
    """

    def __init__(self, measure: ProgressMeasure) -> None:
        super().__init__(measure.schedule)
        self._measure, self._exact = measure, copy.deepcopy(measure)
        self.reads_step, self.needs_optimizer = measure.reads_step, measure.needs_optimizer

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """The measure's, and as many again."""
        own = dict(self._measure.columns(module))
        return own | {f"{name}_noise": shape for name, shape in own.items()}

    def check_data(self, data: Any) -> None:
        """As the measure does."""
        self._measure.check_data(data)

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """The measure's."""
        return self._measure.attributes(module)

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """Twice, at the present weights."""
        state = torch.get_rng_state()
        found = {
            n: np.array(v, dtype=np.float64) for n, v in self._measure.measure(module).items()
        }
        with undisturbed(module), in_float64(module):
            torch.set_rng_state(state)
            exact = self._exact.measure(module)
        return found | {f"{n}_noise": v - np.asarray(exact[n]) for n, v in found.items()}

    def state(self) -> dict[str, Any]:
        """Of both."""
        return {"own": self._measure.state(), "exact": self._exact.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._measure.restore(state["own"])
        self._exact.restore(state["exact"])


class GOPNoise(ProgressMeasure):
    """Metrics of gradient outer products minus their values in float64.

    Columns ``<kind>_<metric>``, of the whole matrices; not of ``trajectory``, which needs earlier
    gradients. With mini-batches they are those of the pass that follows, all at these weights.
    """

    def __init__(self, settings: MeasureSettings, schedule: Any = "log 5") -> None:
        super().__init__(schedule)
        self._settings = settings
        self._kinds = [kind for kind in settings.kinds if kind in AGAIN]

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return {f"{kind}_{metric}": () for kind in self._kinds for metric in METRICS}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """Twice, at the present weights."""
        state = torch.get_rng_state()
        found = self._metrics(module)
        with in_float64(module):
            torch.set_rng_state(state)
            exact = self._metrics(module)
        return {name: value - exact[name] for name, value in found.items()}

    def _metrics(self, module: LightningModule) -> dict[str, float]:
        own = cast(Any, module)
        found = Meter(own, own.data, self._settings).measure(
            own.trainer.current_epoch, Stopwatch()
        )
        return {
            f"{kind}_{metric}": float(found[kind].whole[metric][0])
            for kind in self._kinds
            for metric in METRICS
        }


def with_noise_floor(
    progress: Mapping[str, ProgressMeasure], settings: MeasureSettings
) -> dict[str, ProgressMeasure]:
    """Every progress measure with its noise, and ``noise_floor`` for the kinds."""
    wrapped: dict[str, ProgressMeasure] = {n: WithNoise(each) for n, each in progress.items()}
    if set(AGAIN) & set(settings.kinds):
        wrapped[NOISE] = GOPNoise(settings)
    return wrapped


def require_float64_data(module: LightningModule) -> None:
    """Refuse a module whose data cannot be had in float64.

    Raises:
        ValueError: For any but a GrokkingModule.
    """
    if not hasattr(module, "prepare_data_on_device"):
        raise ValueError(
            f"noise_floor must be false for a module of yours, got true for "
            f"{type(module).__name__}: its data are not known in float64."
        )


@contextmanager
def in_float64(module: LightningModule) -> Iterator[None]:
    """Weights, buffers and data of a GrokkingModule in float64, the very same ones afterwards."""
    own = cast(Any, module)
    tensors = [t for t in (*own.parameters(), *own.buffers()) if t.is_floating_point()]
    kept = [tensor.data for tensor in tensors]
    data = {name: getattr(own, name) for name in DATA}
    for tensor in tensors:
        tensor.data = tensor.data.double()
    try:
        own.live_step = None
        own.prepare_data_on_device(own.data)
        yield
    finally:
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.data = before
        for name, value in data.items():
            setattr(own, name, value)
