"""Measures of one family of experiments, recorded at epochs of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import nn

from grokscope.callbacks.rows import CLOCK
from grokscope.callbacks.schedule import Schedule, parse_schedule
from grokscope.callbacks.stopwatch import Stopwatch
from grokscope.store.layout import INDEX, LIVE, Column, Table

NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
TAKEN = {"metrics", "factor", "gop", "epoch", "step", INDEX, LIVE}


class ProgressMeasure:
    """Numbers that are read off a module at its present weights, such as a restricted loss.

    Subclasses say their columns and measure; ``GOPCallback(progress={"name": measure})`` writes
    a row at each epoch of ``schedule`` to the group ``name`` of ``metrics.h5``, and its single
    numbers to the loggers. Training is not disturbed: see :func:`undisturbed`.

    Args:
        schedule: When; see :func:`~grokscope.callbacks.schedule.parse_schedule`.

    Attributes:
        reads_step: Whether it reads the step under way, ``.grad`` and all, and so leaves
            everything as it is by itself.
        needs_optimizer: Whether it asks the optimizer, which a checkpoint measured later lacks.
    """

    reads_step = False
    needs_optimizer = False

    def __init__(self, schedule: Any = "log 20") -> None:
        self.schedule: Schedule = parse_schedule("schedule", schedule)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of what one row holds; known before the data are."""
        raise NotImplementedError

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """What a reader must know, such as names of layers; stored beside the rows."""
        return {}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """Name -> numbers of the shape that :meth:`columns` says, at the present weights."""
        raise NotImplementedError

    def check_data(self, data: Any) -> None:
        """Refuse a task that it cannot measure, once its splits are there.

        Raises:
            ValueError: With what it needs.
        """

    def state(self) -> dict[str, Any]:
        """What it remembers of earlier rows, as tensors and plain values for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""


class ProgressMeasures:
    """Those of a run.

    Args:
        given: Name -> measure.
        kinds: Names that are taken.

    Raises:
        ValueError: For a name or a measure that cannot be.
    """

    def __init__(
        self, given: Mapping[str, ProgressMeasure] | None, kinds: Collection[str]
    ) -> None:
        self.given = dict(given or {})
        for name, measure in self.given.items():
            _check(name, measure, TAKEN | set(kinds))

    @property
    def schedules(self) -> dict[str, Schedule]:
        """Name -> when."""
        return {name: measure.schedule for name, measure in self.given.items()}

    def check_data(self, data: Any) -> None:
        """Refuse a task that one of them cannot measure.

        Raises:
            ValueError: Naming the measure.
        """
        for name, measure in self.given.items():
            try:
                measure.check_data(data)
            except ValueError as error:
                key = f"measures.progress.{name}"
                raise ValueError(f"{key}: {error} Leave it out by '~{key}'.") from error

    def tables(self, module: LightningModule) -> dict[str, Table]:
        """Name -> what its rows hold."""
        return {
            name: Table(
                name,
                CLOCK | {c: Column(tuple(s)) for c, s in measure.columns(module).items()},
                measure.attributes(module),
            )
            for name, measure in self.given.items()
        }

    def measure(
        self, module: LightningModule, due: Collection[str], clock: Stopwatch
    ) -> dict[str, dict[str, Any]]:
        """Name -> column -> numbers, of those that are due."""
        found = {}
        for name, measure in self.given.items():
            if name in due:
                with clock(name), nullcontext() if measure.reads_step else undisturbed(module):
                    found[name] = _kept(measure.measure(module))
        return found

    def state(self) -> dict[str, Any]:
        """Of each, for a checkpoint."""
        return {name: measure.state() for name, measure in self.given.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        for name, measure in self.given.items():
            if name in state:
                measure.restore(state[name])


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copies: rows wait, and an array may share memory with weights that move on."""
    return {column: np.array(value, dtype=np.float64) for column, value in values.items()}


def _check(name: str, measure: Any, taken: Collection[str]) -> None:
    if not NAME.fullmatch(name) or name in taken:
        raise ValueError(
            f"progress must have names of a-z, 0-9 and _ other than {', '.join(sorted(taken))}, "
            f"got {name!r}."
        )
    if not isinstance(measure, ProgressMeasure):
        raise ValueError(f"progress.{name} must be a ProgressMeasure, got {measure!r}.")
    if not measure.schedule.fixed:
        raise ValueError(
            f"progress.{name}.schedule must name epochs that are known in advance, "
            f"got {measure.schedule}."
        )


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; modes, gradients, buffers and random numbers are put back at the end.

    Within, ``.grad`` of every parameter is None.
    """
    modes = [(part, part.training) for part in module.modules()]
    parameters = list(module.parameters())
    gradients = [(p, p.grad, p.requires_grad) for p in parameters]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    module.eval()
    for parameter in parameters:
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter, gradient, required in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(required)
        for buffer, content in buffers:
            buffer.copy_(content)
