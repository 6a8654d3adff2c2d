"""How the neural tangent kernel moves and aligns, and what a committee's error is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.gradients import empirical_ntk
from grokscope.measures.committee import committee_error
from grokscope.measures.kernels import (
    kernel_change,
    kernel_distance,
    kernel_velocity,
    label_alignment,
    spectrum_participation_ratio,
)
from grokscope.validation import require_choice, require_int

NAMES = (
    "alignment",
    "alignment_centred",
    "alignment_one_sided",
    "distance",
    "change",
    "velocity",
    "relative_velocity",
    "norm",
    "participation_ratio",
)


class KernelProgress(ProgressMeasure):
    """The neural tangent kernel, its outputs traced over, at some samples of a split.

    Columns: ``alignment`` with the labels, ``alignment_centred`` and ``alignment_one_sided``
    (:func:`~grokscope.measures.kernels.label_alignment`: none, both, one_sided); ``distance`` and
    ``change`` since the first row; ``velocity`` and ``relative_velocity`` since the row before, an
    epoch
    (NaN at the first); Frobenius ``norm``; ``participation_ratio`` of the spectrum. The first row
    is epoch 0 unless the schedule leaves it out.

    Args:
        schedule: When; velocities are between its epochs.
        split: ``test`` (Kumar et al.) or ``train``.
        probe: The first so many samples of it.

    Source:
        Kumar et al. 2023, arXiv:2310.06110; Fort et al. 2020, arXiv:2010.15110.
    """

    def __init__(self, schedule: Any = "log 10", split: str = "test", probe: int = 200) -> None:
        super().__init__(schedule)
        self.split = require_choice("split", split, ("train", "test"))
        self.probe = require_int("probe", probe, minimum=2)
        self._first: Tensor | None = None
        self._last: Tensor | None = None
        self._step = 0

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        return dict.fromkeys(NAMES, ())

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """Where the kernel is taken."""
        return {"split": self.split, "probe": self.probe}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        own = cast(Any, module)
        batch = own.test_batch if self.split == "test" else own.train_batch
        rows = slice(0, self.probe)
        kernel = empirical_ntk(own.net, batch.split.inputs[rows]).cpu()
        step = module.trainer.global_step
        if self._first is None:
            self._first = kernel
        found = _still(kernel, batch.loss_targets[rows].cpu(), self._first)
        found |= self._moving(kernel, (step - self._step) / own.steps_per_epoch)
        self._last, self._step = kernel, step
        return found

    def _moving(self, kernel: Tensor, epochs: float) -> dict[str, float]:
        if self._last is None or epochs <= 0:
            return {"velocity": float("nan"), "relative_velocity": float("nan")}
        return {
            "velocity": kernel_velocity(self._last, kernel, epochs),
            "relative_velocity": kernel_velocity(self._last, kernel, epochs, variant="change"),
        }

    def state(self) -> dict[str, Any]:
        """The first kernel, and that of the row before with its step."""
        return {"first": self._first, "last": self._last, "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._first, self._last, self._step = state["first"], state["last"], state["step"]


def _still(kernel: Tensor, targets: Tensor, first: Tensor) -> dict[str, float]:
    return {
        "alignment": label_alignment(kernel, targets),
        "alignment_centred": label_alignment(kernel, targets, centering="both"),
        "alignment_one_sided": label_alignment(kernel, targets, centering="one_sided"),
        "distance": kernel_distance(first, kernel),
        "change": kernel_change(kernel, first),
        "norm": float(kernel.norm()),
        "participation_ratio": spectrum_participation_ratio(kernel),
    }


class CommitteeProgress(ProgressMeasure):
    """Norms of a :class:`~grokscope.nets.Committee`'s weights, and its exact error by parts.

    Columns: ``test_error``, the expected squared error over all inputs, and ``linear``,
    ``variance``, ``misalignment``, of which it is the sum
    (:func:`~grokscope.measures.committee.committee_error`);
    ``norm`` of the weights and ``motion``, the norm of their change since the first row.

    Args:
        schedule: When.

    Source:
        Kumar et al. 2023, arXiv:2310.06110.
    """

    def __init__(self, schedule: Any = "log 20") -> None:
        super().__init__(schedule)
        self._first: Tensor | None = None

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        _committee(module)
        names = ("test_error", "linear", "variance", "misalignment", "norm", "motion")
        return dict.fromkeys(names, ())

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        net, centred = _committee(module)
        weight = net.hidden.weight.detach().double().cpu()
        if self._first is None:
            self._first = weight.clone()
        teacher = cast(Any, module).data.teacher.double().cpu()
        start = self._first if centred else None
        error = committee_error(weight, teacher, net.output_scale, net.epsilon, start)
        return {
            "test_error": error.total,
            "linear": error.linear,
            "variance": error.variance,
            "misalignment": error.misalignment,
            "norm": float(weight.norm()),
            "motion": float((weight - self._first).norm()),
        }

    def state(self) -> dict[str, Any]:
        """The weights at the first row."""
        return {"first": self._first}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._first = state["first"]


def _committee(module: LightningModule) -> tuple[Any, bool]:
    """The committee, and whether its outputs are centred."""
    net: Any = cast(Any, module).net
    centred = hasattr(net, "initial")
    inner = net.net if centred else net
    if not hasattr(inner, "epsilon") or not isinstance(inner.hidden, torch.nn.Linear):
        raise ValueError(
            f"CommitteeProgress must have a Committee, centred or not, got {type(net).__name__}."
        )
    return inner, centred
