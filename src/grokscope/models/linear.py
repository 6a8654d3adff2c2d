"""Linear and two-layer teachers and students: gradient descent beside its theory."""

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
            learning_rate=group["lr"] * self._slowing(),
            weight_decay=group["weight_decay"] * self._teacher.shape[0],
        )

    def _slowing(self) -> float:
        """By what the learning rate is multiplied in the theory."""
        return 1.0

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
        found = super().evaluation_metrics()
        if self._linear:
            with torch.no_grad():
                difference = (self._student() - self._teacher).square().sum()
            found["test_loss"] = float(difference) / self._teacher.shape[0]
        found["theory_train_loss"] = float(self._theory.train_loss(step))
        found["theory_test_loss"] = float(self._theory.test_loss(step))
        return found

    @property
    def _linear(self) -> bool:
        """Whether student and teacher are matrices, so that the test loss is known exactly."""
        return True

    def _student(self) -> torch.Tensor:
        (weight,) = self.net.parameters()
        return weight


class TwoLayerEstimatorModule(LinearEstimatorModule):
    r"""A two-layer student of a two-layer teacher, beside the theory of the linear one.

    While the student's layers stay near their start, its product S = S_0 S_1 follows

    .. math:: \dot D = -\frac{2 \eta h}{d_{out}^2} \Sigma D, \quad D = S - T, \quad
              h = \tfrac12 (\|S_0\|^2 + \|S_1\|^2)

    that is, the linear problem at ``h / d_out`` times its rate, h being 1/2 on average. The
    theory holds for small rates, d_hidden much larger than d_out and small teachers; unlike for
    one layer it is not exact. With ``activation=tanh`` the same curves are stored, and the test
    loss is that of the test samples.

    Raises:
        ValueError: For weight decay, which this theory has not, or another net than two layers
            without biases.

    Source:
        Levi, Beck, Bar-Sinai 2023, arXiv:2310.16441, section 4 (whose eq. 19 lacks the 1/d_out of
        the loss).
    """

    def configure_optimizers(self) -> Any:
        """As the parent, and without weight decay."""
        shapes = [parameter.ndim for parameter in self.net.parameters()]
        if shapes != [2, 2]:
            raise ValueError(f"net must have two layers without biases, got {self.net}.")
        configured = super().configure_optimizers()
        optimizer = configured if isinstance(configured, Optimizer) else configured[0][0]
        if decay := optimizer.param_groups[0]["weight_decay"]:
            raise ValueError(
                f"optimizer.weight_decay must be 0, as the theory of two layers assumes, got "
                f"{decay}."
            )
        return configured

    def on_fit_start(self) -> None:
        """As the parent, from the layers at the start."""
        if not hasattr(self, "_half_norm"):
            squares = sum(float(p.detach().double().square().sum()) for p in self.net.parameters())
            self._half_norm = squares / 2
        super().on_fit_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep h of the initial student too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["half_norm"] = self._half_norm

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` kept."""
        super().on_load_checkpoint(checkpoint)
        self._half_norm = float(checkpoint["half_norm"])

    @property
    def _linear(self) -> bool:
        return getattr(self.net, "activation", "identity") == "identity"

    def _slowing(self) -> float:
        return self._half_norm / self._teacher.shape[0]

    def _student(self) -> torch.Tensor:
        first, last = self.net.parameters()
        return last @ first


def _plain_sgd(optimizer: Any) -> dict[str, Any]:
    group = optimizer.param_groups[0]
    if not isinstance(optimizer, torch.optim.SGD) or group["momentum"]:
        came = f"{type(optimizer).__name__} with momentum {group.get('momentum', 'of its own')}"
        raise ValueError(
            f"optimizer must be SGD without momentum, as the theory assumes, got {came}."
        )
    return group
