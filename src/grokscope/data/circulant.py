"""Modular pairs seen through random circulant features."""

from __future__ import annotations

import torch
from torch import Tensor

from grokscope.data.base import Split
from grokscope.data.modular import ModularDataModule
from grokscope.validation import require_choice, require_int

HANKEL = {"add": False, "subtract": True}


class CirculantModularDataModule(ModularDataModule):
    r"""One-hot pairs multiplied by the fourth root of a random circulant feature matrix.

    Inputs are :math:`(M^*)^{1/4} x` with :math:`M^*` of :func:`random_circulant_features`. A
    quadratic kernel of them is that of x with the features :math:`M = (M^*)^{1/2}`.

    Args:
        modulus: p.
        operation: ``add`` (circulant features) or ``subtract`` (Hankel ones).
        train_fraction: As in :class:`~grokscope.data.modular.ModularDataModule`.
        split: As there.
        seed: As there; also draws the features.
        batch_size: As there.

    Raises:
        ValueError: For an argument out of range.

    Source:
        Mallinar et al. 2024, arXiv:2407.20199, section on random circulant features.
    """

    def __init__(
        self,
        modulus: int = 61,
        operation: str = "add",
        train_fraction: float = 0.175,
        split: str = "torch",
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        require_choice("operation", operation, HANKEL)
        super().__init__(modulus, operation, train_fraction, "one_hot", split, seed, batch_size)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits of the parent, with transformed inputs."""
        features = random_circulant_features(
            self.modulus, hankel=HANKEL[self.operation], seed=self.seed
        )
        root = positive_root(features, 4)
        train, test = super().make_splits()
        return tuple(Split((s.inputs.double() @ root).float(), s.targets) for s in (train, test))  # type: ignore[return-value]


def random_circulant_features(modulus: int, *, hankel: bool = False, seed: int = 0) -> Tensor:
    r"""A random feature matrix with the structure that recursive feature machines end with.

    .. math:: M^* = \begin{pmatrix} A & C^\top \\ C & A \end{pmatrix}, \qquad
              A = I - \frac{1}{p} 1 1^\top, \qquad
              C_{ij} = c_{(i - j) \bmod p}

    with :math:`c_k` uniform in [0, 1], less their mean. The paper does not subtract it; the code
    does so for the kernel, and we always do.

    Args:
        modulus: p.
        hankel: :math:`C_{ij} = c_{(i + j) \bmod p}`, the structure of subtraction.
        seed: Of a private generator.

    Returns:
        (2p, 2p) float64, symmetric, in general indefinite.
    """
    require_int("modulus", modulus, minimum=2)
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(modulus, dtype=torch.float64, generator=generator)
    index = torch.arange(modulus)
    rows = index[:, None]
    block = (values - values.mean())[(rows + index if hankel else rows - index) % modulus]
    diagonal = torch.eye(modulus, dtype=torch.float64) - 1 / modulus
    return torch.cat([torch.cat([diagonal, block.T], 1), torch.cat([block, diagonal], 1)])


def positive_root(matrix: Tensor, degree: int) -> Tensor:
    r"""Root of the positive part of a symmetric matrix; negative eigenvalues count as zero.

    For the square root this is the real part of the principal root, as in the released code;
    the fourth root is here the square root of that, again.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    noise = len(values) * torch.finfo(values.dtype).eps * values[-1]
    return (vectors * torch.where(values > noise, values, 0.0) ** (1 / degree)) @ vectors.T
