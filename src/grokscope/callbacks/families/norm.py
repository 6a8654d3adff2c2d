"""The norm of a net, which Omnigrok's curves are drawn over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule

from grokscope.callbacks.progress_measures import ProgressMeasure


class NetNorm(ProgressMeasure):
    """``norm``: the Euclidean norm of all parameters of the net together.

    Liu et al. 2023 (Omnigrok), arXiv:2210.01117. It is recorded as ``<name>/norm``.
    """

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """One number."""
        return {"norm": ()}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        parameters = list(cast(Any, module).net.parameters())
        norms = [torch.linalg.vector_norm(p.detach().cpu().double()) for p in parameters]
        return {"norm": float(torch.stack(norms).norm())}
