"""Recursive feature machines in the same loop as nets: one pass is one iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from grokscope.data.base import TensorDataModule
from grokscope.measures.feature_ansatz import psd_power
from grokscope.measures.rfm import (
    BANDWIDTH,
    gaussian_agop,
    gaussian_kernel,
    quadratic_agop,
    quadratic_kernel,
)
from grokscope.models.grokking import GrokkingModule
from grokscope.models.loop import Batch
from grokscope.models.losses import Accuracy, Loss
from grokscope.validation import require_bool, require_choice, require_float, require_int

KERNELS = ("quadratic", "gaussian")


class KernelMachine(nn.Module):
    r"""Kernel regression with a feature matrix.

    .. math:: f(x) = K_M(x, X)\, \alpha, \qquad \alpha = (K_M(X, X) + \lambda I)^{-1} Y

    The features M are the only state: a parameter that no optimizer trains, I at the start. The
    coefficients follow from M and the training samples, and are solved for when they are first
    needed. Before :meth:`bind` names the samples, f is zero.

    Args:
        n_inputs: d.
        n_outputs: c.
        kernel: ``quadratic`` or ``gaussian``: see :mod:`grokscope.measures.rfm`.
        bandwidth: L of the Gaussian kernel, in the released code's convention.
        ridge: λ. With 0, as published, float64 is needed (condition numbers reach 1e5).
        power: s in M ← Gˢ.
        centered: Whether the AGOP is that of gradients less their mean, as in the code.

    Raises:
        ValueError: For an argument out of range.

    Source:
        Mallinar et al. 2024, arXiv:2407.20199.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        kernel: str = "quadratic",
        bandwidth: float = BANDWIDTH,
        ridge: float = 0.0,
        power: float = 0.5,
        centered: bool = True,
    ) -> None:
        super().__init__()
        require_int("n_inputs", n_inputs)
        self.n_outputs = require_int("n_outputs", n_outputs)
        self.kernel = require_choice("kernel", kernel, KERNELS)
        self.bandwidth = require_float("bandwidth", bandwidth, above=0)
        self.ridge = require_float("ridge", ridge, minimum=0)
        self.power = require_float("power", power, above=0)
        self.centered = require_bool("centered", centered)
        self.features = nn.Parameter(torch.eye(n_inputs), requires_grad=False)
        self._samples: tuple[Tensor, Tensor] | None = None
        self._solved: tuple[Tensor, Tensor] | None = None

    def bind(self, inputs: Tensor, targets: Tensor) -> None:
        """Name the training samples: inputs (n, d), targets (n, c)."""
        self._samples, self._solved = (inputs, targets), None

    @property
    def alpha(self) -> Tensor:
        """Coefficients (n, c) for the present features."""
        if self._samples is None:
            raise ValueError("bind must name the training samples before they are needed.")
        if self._solved is None or not torch.equal(self._solved[0], self.features):
            self._solved = self.features.detach().clone(), self._solve(*self._samples)
        return self._solved[1]

    def _solve(self, inputs: Tensor, targets: Tensor) -> Tensor:
        gram = self._kernel(inputs, inputs)
        if self.ridge:
            gram.diagonal().add_(self.ridge)
        return torch.linalg.solve(gram, targets)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, c) of inputs (n, d)."""
        if self._samples is None:
            return inputs @ inputs.new_zeros(len(self.features), self.n_outputs)
        return self._kernel(inputs, self._samples[0]) @ self.alpha

    def agop(self) -> Tensor:
        """Average gradient outer product (d, d) at the training samples."""
        alpha = self.alpha
        assert self._samples is not None
        settings = self._samples[0], self.features.detach(), alpha
        if self.kernel == "quadratic":
            return quadratic_agop(*settings, centered=self.centered)
        return gaussian_agop(*settings, self.bandwidth, centered=self.centered)

    @torch.no_grad()
    def update(self) -> None:
        """One iteration: M ← Gˢ."""
        self.features.copy_(psd_power(self.agop(), self.power))

    def _kernel(self, x: Tensor, z: Tensor) -> Tensor:
        features = self.features.detach()
        if self.kernel == "quadratic":
            return quadratic_kernel(x, z, features)
        return gaussian_kernel(x, z, features, self.bandwidth)


class RecursiveFeatureModule(GrokkingModule):
    """Iterates a :class:`KernelMachine`; row e describes its predictor after e iterations.

    Nothing is trained by gradients, so no kind of gradient outer product applies:
    ``measures.kinds`` must be empty. The optimizer has nothing to change and only counts the
    iterations as Lightning's steps.

    Args:
        net: The machine.
        loss: Per-sample loss; its targets are what the machine regresses to.
        accuracy: Per-sample right or wrong.
        optimizer: Any; never moves anything.
        scheduler: Must be None.
        steps_per_call: As in :class:`~grokscope.models.GrokkingModule`.
        extra_splits: As there.

    Raises:
        ValueError: For a net that is no kernel machine, a scheduler, mini-batches, or several
            processes.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        accuracy: Accuracy,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: None = None,
        steps_per_call: str = "many",
        extra_splits: Sequence[str] = (),
    ) -> None:
        if not isinstance(net, KernelMachine):
            raise ValueError(f"net must be a kernel machine, got {type(net).__name__}.")
        if scheduler is not None:
            raise ValueError(f"scheduler must be null without gradients, got {scheduler!r}.")
        super().__init__(
            net,
            loss,
            accuracy,
            optimizer,
            steps_per_call=steps_per_call,
            extra_splits=extra_splits,
        )

    @property
    def machine(self) -> KernelMachine:
        """The net."""
        return cast(KernelMachine, self.net)

    def check_data(self, data: TensorDataModule) -> None:
        """As the parent; all samples at once."""
        if data.batch_size is not None:
            raise ValueError(
                f"data.batch_size must be null for a kernel machine, got {data.batch_size}."
            )

    def prepare_data_on_device(self, data: TensorDataModule) -> None:
        """As the parent; the training samples are the machine's centres."""
        super().prepare_data_on_device(data)
        self.machine.bind(*self.training_samples())

    def on_fit_start(self) -> None:
        """As the parent, in one process."""
        if (world := self.trainer.world_size) > 1:
            raise ValueError(f"trainer.devices must be 1 for a kernel machine, got {world}.")
        super().on_fit_start()

    def step(self, batch: Batch, hooked: bool, observe: Callable[[], None] | None = None) -> None:
        """Observe the present predictor, count, and take the features of its AGOP."""
        optimizer = cast(Any, self.optimizers())
        if observe is not None:
            observe()
        (optimizer if hooked else optimizer.optimizer).step()
        self.machine.update()
