"""Polynomial regression: a squared projection of Gaussian inputs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_float, require_int

_MAX_VALUES = 2 * 10**9


class QuadraticTeacherDataModule(TensorDataModule):
    r"""Targets that are quadratic in one direction, without noise.

    .. math:: x \sim N(0, I/D), \quad y = c\, (\beta \cdot x)^2, \quad \beta \sim N(0, I_D)

    ``inputs`` (n, D) and ``targets`` (n, 1) are float64. Teacher, training and test samples have
    generators of their own.

    Attributes:
        teacher: beta, float64 (D,); there after ``setup``.

    Args:
        d_in: D.
        n_train: P. A linear fit needs D samples, a kernel of degree two about D^2.
        n_test: Fresh samples; the committee's exact error needs none
            (:mod:`grokscope.measures.committee`).
        factor: c; 1/2 in the paper, 1 in the adapted code's sweep over alpha.
        seed: Seeds everything drawn here.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.

    Raises:
        ValueError: For a wrong argument.

    Source:
        Kumar et al. 2023, arXiv:2310.06110; D = 100, P = 550 and 1000 test samples in the adapted
        code giovana-morais/amlds_final_project:grokking_polynomial_regression.ipynb.
    """

    teacher: Tensor

    def __init__(
        self,
        d_in: int = 100,
        n_train: int = 550,
        n_test: int = 1000,
        factor: float = 0.5,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        self.d_in = require_int("d_in", d_in)
        self.n_train = require_int("n_train", n_train)
        self.n_test = require_int("n_test", n_test)
        self.factor = require_float("factor", factor, above=0.0)
        if (n := max(n_train, n_test)) * d_in > _MAX_VALUES:
            name = "n_train" if n == n_train else "n_test"
            raise ValueError(
                f"{name} must ask for at most {_MAX_VALUES:.0e} values in memory, got {n} "
                f"samples of {d_in} inputs."
            )

    def make_splits(self) -> tuple[Split, Split]:
        """Draw the teacher, then each split from a stream of its own."""
        self.teacher = self._gaussian(0, self.d_in)
        return self._split(1, self.n_train), self._split(2, self.n_test)

    def _split(self, stream: int, n: int) -> Split:
        inputs = self._gaussian(stream, n, self.d_in) / math.sqrt(self.d_in)
        return Split(inputs, self.factor * (inputs @ self.teacher).square()[:, None])

    def _gaussian(self, stream: int, *shape: int) -> Tensor:
        """NumPy's values: a student drawn by torch from the same seed has others."""
        rng = np.random.default_rng((self.seed, stream))
        return torch.from_numpy(rng.standard_normal(shape))
