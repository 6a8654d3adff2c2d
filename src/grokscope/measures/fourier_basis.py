r"""The Fourier basis of the residues modulo p, and how a matrix spreads over it.

Rows of :math:`F \in R^{p \times p}`, p odd, n = 0, ..., p - 1:

.. math::
    F_0 = 1 / \sqrt p, \qquad F_{2k-1} = \sqrt{2 / p}\, \cos(2 \pi k n / p), \qquad
    F_{2k} = \sqrt{2 / p}\, \sin(2 \pi k n / p), \qquad k = 1, ..., (p - 1) / 2

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook
Grokking_Analysis). Arrays and tensors are both taken; everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grokscope.validation import require_int

Array = Any
"""A matrix or vector as numpy, torch or nested lists give it."""


def fourier_basis(modulus: int) -> Tensor:
    """F, (p, p) float64; its rows are orthonormal.

    The order is constant, cos 1, sin 1, cos 2, ... Later code of the authors has sin before cos.

    Args:
        modulus: p, odd.

    Raises:
        ValueError: If it is even or below 3.
    """
    require_odd(modulus)
    residues = torch.arange(modulus)
    k = torch.arange(1, (modulus + 1) // 2)[:, None]
    # whole periods are taken off as integers, so the angles have no rounding of their own
    angles = (2 * math.pi / modulus) * (k * residues % modulus).double()
    waves = torch.stack([angles.cos(), angles.sin()], dim=1).flatten(0, 1)
    constant = torch.full((1, modulus), 1 / math.sqrt(modulus), dtype=torch.float64)
    return torch.cat([constant, math.sqrt(2 / modulus) * waves])


def fourier_components(matrix: Array, *, axis: int = -1) -> Tensor:
    """F applied along one axis of p residues: ``matrix @ F.T`` for the last, ``F @ matrix`` for 0.

    Args:
        matrix: W_E without its "=" column (d, p); the neuron-logit map (p, h) with ``axis=0``,
            whose rows 2k - 1 and 2k are then the directions u_k and v_k of the paper.
        axis: That of the residues.

    Returns:
        Of the same shape, float64.

    Raises:
        ValueError: If the axis is not there, or its length is even or below 3.
    """
    values = as_double(matrix)
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis must be one of {values.ndim} axes, got {axis}.")
    basis = fourier_basis(values.shape[axis]).to(values.device)
    return (values.movedim(axis, -1) @ basis.t()).movedim(-1, axis)


def fourier_norms(matrix: Array, *, axis: int = -1) -> Tensor:
    """Norm of each Fourier component over all other axes, (p,) in the order of the basis.

    Args:
        matrix: As in :func:`fourier_components`.
        axis: As there.

    Raises:
        ValueError: As there.
    """
    return fourier_components(matrix, axis=axis).movedim(axis, -1).flatten(0, -2).norm(dim=0)


def frequency_norms(norms: Array) -> Tensor:
    """Norms (p,) with cos and sin of a frequency pooled, without the constant: ((p - 1) / 2,).

    Raises:
        ValueError: If ``norms`` is not a vector of odd length, at least 3.
    """
    values = _norms(norms)
    return values[1:].view(-1, 2).norm(dim=1)


def key_fraction(norms: Array, frequencies: Sequence[int]) -> float:
    """Share of some frequencies in the sum of all p squared norms; NaN if that is zero.

    Raises:
        ValueError: For norms that are no such vector, or frequencies out of range.
    """
    values = _norms(norms)
    rows = torch.tensor(require_frequencies(frequencies, len(values)), dtype=torch.int64) - 1
    return float(frequency_norms(values)[rows].square().sum() / values.square().sum())


def gini(values: Array) -> float:
    r"""How unequal n values are: 0 if all are the same, 1 - 1 / n if one is not zero.

    .. math:: G = 1 - 2 \sum_{i=1}^n \frac{c_{(i)}}{\sum_j c_j} \frac{n - i + 1/2}{n}

    with the values in ascending order.

    Args:
        values: (n,), none below zero.

    Returns:
        NaN if all are zero.

    Raises:
        ValueError: If ``values`` is no vector, or has negative or no entries.

    Source:
        Hurley and Rickard 2009, arXiv:0811.4706.
    """
    c = as_double(values)
    if c.ndim != 1 or not len(c) or not bool((c >= 0).all()):
        raise ValueError(f"values must be a vector without negative entries, got {_shown(c)}.")
    n = len(c)
    below = (n - torch.arange(1, n + 1, dtype=c.dtype, device=c.device) + 0.5) / n
    return float(1 - 2 * (c.sort().values / c.sum() * below).sum())


def gini_variants(norms: Array) -> dict[str, float]:
    """Gini coefficients of Fourier norms (p,), for each reading of the paper.

    The paper says "norms of the Fourier components"; its code has no Gini coefficient.

    Args:
        norms: As :func:`fourier_norms` gives them.

    Returns:
        ``norms_all_p_components``, the plainest reading; ``norms_without_const``, (p - 1);
        ``norms_per_frequency`` and ``squared_norms_per_frequency``, (p - 1) / 2 with cos and sin
        pooled.

    Raises:
        ValueError: If ``norms`` is not a vector of odd length, at least 3.
    """
    values = _norms(norms)
    pooled = frequency_norms(values)
    return {
        "norms_all_p_components": gini(values),
        "norms_without_const": gini(values[1:]),
        "norms_per_frequency": gini(pooled),
        "squared_norms_per_frequency": gini(pooled.square()),
    }


def require_odd(modulus: int) -> int:
    """Return ``modulus`` if it is odd and at least 3, else raise ``ValueError``."""
    require_int("modulus", modulus, minimum=3)
    if modulus % 2 == 0:
        raise ValueError(f"modulus must be odd, got {modulus}.")
    return modulus


def require_frequencies(frequencies: Sequence[int], modulus: int) -> list[int]:
    """Return them as ints if they are distinct and in 1, ..., (p - 1) / 2, else raise."""
    last = (require_odd(modulus) - 1) // 2
    found = list(frequencies)
    whole = [int(k) for k in found if int(k) == k and 1 <= k <= last]
    if len(set(whole)) != len(found):
        raise ValueError(f"key_frequencies must be distinct integers 1 to {last}, got {found}.")
    return whole


def as_double(values: Array) -> Tensor:
    """A detached float64 tensor; memory is shared where ``values`` is one already."""
    if isinstance(values, Tensor):
        return values.detach().double()
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))


def _norms(norms: Array) -> Tensor:
    """Fourier norms as a vector."""
    values = as_double(norms)
    if values.ndim != 1 or len(values) < 3 or len(values) % 2 == 0:
        raise ValueError(f"norms must be a vector of odd length >= 3, got {_shown(values)}.")
    return values


def _shown(values: Tensor) -> str:
    return f"shape {tuple(values.shape)}" if values.ndim != 1 else f"{values.tolist()}"
