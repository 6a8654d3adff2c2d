"""Linear and two-layer teachers on Gaussian inputs: grokking almost without a non-linearity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_choice, require_float, require_int

ACTIVATIONS = {"identity": lambda x: x, "tanh": torch.tanh}
_MAX_VALUES = 2 * 10**9


class LinearTeacherDataModule(TensorDataModule):
    r"""Targets of a random linear map, without noise.

    .. math:: x \sim N(0, I_{d_{in}}), \quad y = T^\top x, \quad
              T_{ij} \sim N(0, 1 / (2 d_{in} d_{out}))

    ``inputs`` (n, d_in) and ``targets`` (n, d_out) are float64. A student drawn like the
    teacher starts with a loss of 1 / d_out on average. Teacher, training and test samples
    have generators of their own: the teacher is the same for every ``ratio`` and ``n_test``,
    none of the three depends on the global random state, and a student drawn by torch from
    the same seed is another matrix than the teacher.

    Attributes:
        teacher: ``T``, float64 (d_in, d_out); there after ``setup``.

    Args:
        d_in: Input features.
        d_out: Outputs.
        ratio: ``d_in / n_train``, lambda in the paper; above 1 there are fewer samples than
            features and the student cannot generalise fully. ``n_train`` is rounded.
        n_test: Fresh samples for the test accuracy. The exact test loss needs none:
            ``grokscope.measures.linear_theory``.
        seed: Seeds everything drawn here.

    Raises:
        ValueError: For a wrong argument.

    Source:
        Levi, Beck, Bar-Sinai 2023, arXiv:2310.16441: d_in 1000, d_out 1, ratio 0.1, 0.9
        and 1.5 in Fig. 1; full-batch gradient descent. ``n_test`` is our choice.
    """

    teacher: Tensor

    def __init__(
        self,
        d_in: int = 1000,
        d_out: int = 1,
        ratio: float = 0.9,
        n_test: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=None, seed=seed)
        self.d_in = require_int("d_in", d_in)
        self.d_out = require_int("d_out", d_out)
        self.ratio = require_float("ratio", ratio, above=0.0)
        self.n_test = require_int("n_test", n_test)
        _require_size("ratio", ratio, self.d_in / self.ratio, d_in, d_out)
        _require_size("n_test", n_test, n_test, d_in, d_out)
        self.n_train = max(1, round(self.d_in / self.ratio))

    def make_splits(self) -> tuple[Split, Split]:
        """Draw the teacher, then each split from a stream of its own."""
        scale = (2 * self.d_in * self.d_out) ** -0.5
        self.teacher = scale * self._gaussian(0, self.d_in, self.d_out)
        return self._split(1, self.n_train), self._split(2, self.n_test)

    def _split(self, stream: int, n: int) -> Split:
        inputs = self._gaussian(stream, n, self.d_in)
        return Split(inputs, self._targets(inputs))

    def _targets(self, inputs: Tensor) -> Tensor:
        return inputs @ self.teacher

    def _gaussian(self, stream: int, *shape: int) -> Tensor:
        """Standard normal values, rows independent of how many follow.

        NumPy's, because torch's CPU generator keeps 32 bits of a seed and gives an offset
        one the values that a student initialised from the same seed may have.
        """
        rng = np.random.default_rng((self.seed, stream))
        return torch.from_numpy(rng.standard_normal(shape))


class TwoLayerTeacherDataModule(LinearTeacherDataModule):
    r"""Targets of a random net of two layers without biases.

    .. math:: y = T_1^\top \phi(T_0^\top x), \quad T_0 \sim N(0, 1 / (2 d_{in} d_{hidden})),
              \quad T_1 \sim N(0, 1 / (2 d_{hidden} d_{out}))

    Attributes:
        teacher: The product T_0 T_1, (d_in, d_out), which is the whole teacher for ``identity``.

    Args:
        d_in: As in :class:`LinearTeacherDataModule`, and so are ``d_out``, ``ratio``, ``n_test``
            and ``seed``.
        d_hidden: Hidden units.
        activation: phi, ``identity`` or ``tanh``.

    Source:
        Levi, Beck, Bar-Sinai 2023, arXiv:2310.16441, section 4: 1000-d_hidden-5 with d_hidden of
        50 and 200.
    """

    def __init__(
        self,
        d_in: int = 1000,
        d_hidden: int = 200,
        d_out: int = 5,
        activation: str = "identity",
        ratio: float = 0.9,
        n_test: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(d_in, d_out, ratio, n_test, seed)
        self.d_hidden = require_int("d_hidden", d_hidden)
        self.activation = require_choice("activation", activation, ACTIVATIONS)

    def make_splits(self) -> tuple[Split, Split]:
        """Draw both layers of the teacher, then each split from a stream of its own."""
        first = self._gaussian(0, self.d_in, self.d_hidden)
        last = self._gaussian(3, self.d_hidden, self.d_out)
        self._layers = (
            (2 * self.d_in * self.d_hidden) ** -0.5 * first,
            (2 * self.d_hidden * self.d_out) ** -0.5 * last,
        )
        self.teacher = self._layers[0] @ self._layers[1]
        return self._split(1, self.n_train), self._split(2, self.n_test)

    def _targets(self, inputs: Tensor) -> Tensor:
        first, last = self._layers
        return ACTIVATIONS[self.activation](inputs @ first) @ last


def _require_size(name: str, value: float | int, n: float | int, d_in: int, d_out: int) -> None:
    if n * (d_in + d_out) > _MAX_VALUES:
        raise ValueError(
            f"{name} must ask for at most {_MAX_VALUES:.0e} values in memory, got {value!r}: "
            f"{n:.3g} samples of {d_in} inputs and {d_out} outputs."
        )
