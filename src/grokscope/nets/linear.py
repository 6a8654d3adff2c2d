"""The linear estimator, the smallest net that groks."""

from __future__ import annotations

from grokscope.nets.initialise import levi_std
from grokscope.nets.mlp import MLP


class LinearEstimator(MLP):
    r"""One matrix, :math:`f(x) = S^\top x`, drawn from N(0, 1 / (2 d_in d_out)).

    Teacher and student are both this net, with different seeds.

    Args:
        d_in: Input width.
        d_out: Output width.
        std: Standard deviation of the weights; None is :func:`levi_std`.
        seed: Seeds a private generator; None draws from torch's global one.

    Source:
        Levi, Beck and Bar-Sinai 2024, arXiv:2310.16441, section 2.
    """

    def __init__(
        self, d_in: int, d_out: int = 1, std: float | None = None, seed: int | None = None
    ) -> None:
        std = levi_std(d_in, d_out) if std is None else std
        super().__init__((d_in, d_out), "identity", bias=False, init_std=std, seed=seed)
