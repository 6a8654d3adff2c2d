"""What Power et al. 2022 relate to generalisation: the sharpness of the minimum."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.sharpness import keskar_sharpness
from grokscope.validation import require_int

Array = NDArray[np.float64]


class Sharpness(ProgressMeasure):
    """Keskar's sharpness of the training loss in a random subspace, in percent, as ``sharpness``.

    Costs some fifteen gradients of the whole training set. The directions are the same at every
    row. In evaluation mode.

    Args:
        schedule: When.
        n_directions: Of the subspace.
        radius: Half-width of the box for weights near zero.
        iterations: Of L-BFGS-B.
        seed: Of the directions.
        chunk: Samples in a forward pass.

    Source:
        Power et al. 2022, arXiv:2201.02177, A.5; see
        :func:`~grokscope.measures.sharpness.keskar_sharpness` for what the code does instead.
    """

    def __init__(
        self,
        schedule: Any = "log 2",
        n_directions: int = 10,
        radius: float = 1e-3,
        iterations: int = 10,
        seed: int = 0,
        chunk: int = 512,
    ) -> None:
        super().__init__(schedule)
        settings = {"n_directions": n_directions, "iterations": iterations}
        self._settings: dict[str, Any] = {**settings, "radius": radius, "seed": seed}
        self.chunk = require_int("chunk", chunk)

    def columns(self, module: LightningModule) -> dict[str, tuple[int, ...]]:
        """``sharpness``."""
        return {"sharpness": ()}

    def measure(self, module: LightningModule) -> dict[str, float]:
        """At the present weights, which are put back."""
        parameters = list(cast(torch.nn.Module, module.net).parameters())
        kept = [p.detach().clone() for p in parameters]
        weights = parameters_to_vector(kept).double().cpu().numpy()
        try:
            with torch.enable_grad():
                found = keskar_sharpness(
                    lambda x: self._evaluate(module, parameters, x), weights, **self._settings
                )
        finally:
            with torch.no_grad():
                for parameter, value in zip(parameters, kept, strict=True):
                    parameter.copy_(value)
        return {"sharpness": found}

    def _evaluate(
        self, module: Any, parameters: list[torch.nn.Parameter], weights: Array
    ) -> tuple[float, Array]:
        """Mean training loss and its gradient at these weights."""
        inputs, targets = module.training_samples()
        vector = torch.from_numpy(weights).to(parameters[0])
        with torch.no_grad():
            pieces = vector.split([p.numel() for p in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.copy_(piece.view_as(parameter))
        total, gradient = 0.0, torch.zeros_like(vector, dtype=torch.float64)
        for rows in torch.arange(len(inputs)).split(self.chunk):
            loss = module.loss(module.net(inputs[rows]), targets[rows]).sum()
            parts = torch.autograd.grad(loss, parameters, allow_unused=True)
            known = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, parts, strict=True)
            ]
            gradient += parameters_to_vector(known).double()
            total += float(loss.detach())
        return total / len(inputs), (gradient / len(inputs)).cpu().numpy()
