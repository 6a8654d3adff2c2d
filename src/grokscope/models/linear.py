"""Linear teacher and student: gradient descent beside its exact theory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.optim import Optimizer

from grokscope.data.base import TensorDataModule
from grokscope.data.linear_teacher import LinearTeacherDataModule
from grokscope.measures.linear_theory import LinearTheory
from grokscope.models.grokking import GrokkingModule


class LinearEstimatorModule(GrokkingModule):
    """A linear student of a linear teacher under full-batch gradient descent.

    The test loss is the exact expectation over x ~ N(0, 1), ‖S - T‖² / d_out; the test
    accuracy is that of the fresh test samples. Beside them, at every recorded step t, the losses
    that the exact finite-size theory gives from the data's own covariance matrix and the
    initial student (:class:`~grokscope.measures.linear_theory.LinearTheory`; Levi et al. 2023,
    arXiv 2310.16441, eqs. 3-5): ``theory_train_loss`` and ``theory_test_loss``.

    Raises:
        ValueError: In ``configure_optimizers``, if the optimizer is not plain SGD.
    """

    extra_metrics = ("theory_train_loss", "theory_test_loss")

    def prepare_data_on_device(self, data: TensorDataModule) -> None:
        """As the parent; also keep the teacher."""
        super().prepare_data_on_device(data)
        self._teacher = cast(LinearTeacherDataModule, data).teacher.to(self.device).T

    def configure_optimizers(self) -> Any:
        """As the parent, which must be plain SGD."""
        configured = super().configure_optimizers()
        _plain_sgd(configured if isinstance(configured, Optimizer) else configured[0][0])
        return configured

    def on_fit_start(self) -> None:
        """Work out the theory from the data and the initial student."""
        super().on_fit_start()
        if not hasattr(self, "_initial"):
            self._initial = self._student().detach().clone()
        group = _plain_sgd(self.trainer.optimizers[0])
        self._theory = LinearTheory(
            self.train_batch.split.inputs.double().cpu().numpy(),
            self._initial.double().cpu().numpy().T,
            self._teacher.double().cpu().numpy().T,
            learning_rate=group["lr"],
            weight_decay=group["weight_decay"] * self._teacher.shape[0],
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the initial student too; a resumed run needs it for the theory."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["initial_student"] = self._initial

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` kept."""
        super().on_load_checkpoint(checkpoint)
        self._initial = checkpoint["initial_student"]

    def evaluation_metrics(self) -> dict[str, float]:
        """Losses and accuracies, and the two losses of the theory."""
        step = self.trainer.global_step
        with torch.no_grad():
            difference = (self._student() - self._teacher).square().sum()
        found = super().evaluation_metrics()
        found["test_loss"] = float(difference) / self._teacher.shape[0]
        found["theory_train_loss"] = float(self._theory.train_loss(step))
        found["theory_test_loss"] = float(self._theory.test_loss(step))
        return found

    def _student(self) -> torch.Tensor:
        (weight,) = self.net.parameters()
        return weight


def _plain_sgd(optimizer: Any) -> dict[str, Any]:
    group = optimizer.param_groups[0]
    if not isinstance(optimizer, torch.optim.SGD) or group["momentum"]:
        came = f"{type(optimizer).__name__} with momentum {group.get('momentum', 'of its own')}"
        raise ValueError(
            f"optimizer must be SGD without momentum, as the theory assumes, got {came}."
        )
    return group
