"""The largest curvature of the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.hessian import top_hessian_eigenvalue
from grokscope.validation import require_float, require_int

STIR = 0.1  # an old eigenvector alone never finds a new one that is orthogonal to it


class HessianProgress(ProgressMeasure):
    """The largest eigenvalue of the Hessian of the training loss, without penalties.

    Columns ``top_eigenvalue``; ``residual``, within which of it an eigenvalue lies; ``products``,
    Hessian-vector products that it took, each of about two passes over the probe
    (:func:`~grokscope.measures.hessian.top_hessian_eigenvalue`). Each row starts from the
    eigenvector of the row before.

    Args:
        schedule: When.
        probe: Training samples, evenly spaced.
        iterations: Products, at most.
        tolerance: It ends when the residual is below this share of the eigenvalue.
    """

    def __init__(
        self,
        schedule: Any = "log 5",
        probe: int = 512,
        iterations: int = 30,
        tolerance: float = 0.01,
    ) -> None:
        super().__init__(schedule)
        self.probe = require_int("probe", probe)
        self.iterations = require_int("iterations", iterations)
        self.tolerance = require_float("tolerance", tolerance, above=0.0)
        self._vector: Tensor | None = None

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        if not any(p.requires_grad for p in module.parameters()):
            raise ValueError("HessianProgress must have a net with trained parameters, got none.")
        return dict.fromkeys(("top_eigenvalue", "residual", "products"), ())

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """How many samples."""
        return {"probe": self.probe}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        inputs, targets = own.training_samples()
        rows = torch.linspace(0, len(inputs) - 1, min(self.probe, len(inputs))).round().long()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            loss = own.loss(own.net(inputs[rows]), targets[rows]).mean()
        weights = [p for p in own.parameters() if p.requires_grad]
        found = top_hessian_eigenvalue(
            loss,
            weights,
            start=self._start(weights),
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        self._vector = found.vector
        return {
            "top_eigenvalue": found.value,
            "residual": found.residual,
            "products": found.products,
        }

    def _start(self, weights: list[Tensor]) -> Tensor:
        size = sum(w.numel() for w in weights)
        random = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(weights[0])
        if self._vector is None:
            return random
        return self._vector.to(random) + STIR * random / random.norm()

    def state(self) -> dict[str, Any]:
        """The eigenvector of the row before."""
        return {"vector": self._vector}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._vector = state["vector"]
