"""Whether rounding drives or stops training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.numerics import naive_loss_minimisation, softmax_numerics

OF_SOFTMAX = ("absorbed", "collapsed", "zero_sum")


class NumericsGuard(ProgressMeasure):
    """Softmax collapse, logit gradients that do not sum to zero, and gradients along the weights.

    Columns: ``absorbed``, ``collapsed`` and ``zero_sum``
    (:class:`~grokscope.measures.numerics.SoftmaxNumerics`; only of a loss with a softmax) and
    ``nlm_cosine`` (:func:`~grokscope.measures.numerics.naive_loss_minimisation`, penalties of the
    loss included).

    Read off the step under way: its outputs and gradients are those that train the net, at no
    further pass. With mini-batches it is the first of the pass; with several processes, outputs
    are of this process's samples.

    Source:
        Prieto et al. 2025, arXiv:2501.04697; arXiv:2605.06152.
    """

    reads_step = True

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        if not hasattr(module, "live_step"):
            raise ValueError(
                f"NumericsGuard must have a GrokkingModule, got {type(module).__name__}."
            )
        names = (*OF_SOFTMAX, "nlm_cosine") if _has_softmax(module) else ("nlm_cosine",)
        return dict.fromkeys(names, ())

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the step under way; at a checkpoint, a step on all training samples."""
        own = cast(Any, module)
        with torch.enable_grad():
            step = own.live_step or own.gradient_step()
            found = _of_softmax(own, step) if _has_softmax(module) else {}
        trained = [p for p in own.parameters() if p.grad is not None]
        cosine = naive_loss_minimisation([p.grad for p in trained], trained)
        return {**found, "nlm_cosine": cosine}


def _has_softmax(module: LightningModule) -> bool:
    return hasattr(cast(Any, module).loss, "logits")


def _of_softmax(own: Any, step: Any) -> dict[str, float]:
    outputs = step.outputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(own.loss.mean(outputs, step.targets), outputs)
    logits, targets = own.loss.logits(step.outputs, step.targets)
    counted, _ = own.loss.logits(gradient, step.targets)
    found = softmax_numerics(logits, targets, counted)
    return {name: getattr(found, name) for name in OF_SOFTMAX}
