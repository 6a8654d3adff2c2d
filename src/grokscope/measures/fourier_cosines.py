r"""How much of the logits of modular addition is cos(w_k (a + b - c)).

Logits are (p^2, p) as in :mod:`grokscope.measures.fourier_waves`. They carry much that is the
same for every class, which softmax does not see, or for every input, so every cosine and share
here depends on how they are centred; the released code does not centre.

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook
Grokking_Analysis).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import Array, as_double, require_frequencies
from grokscope.measures.fourier_waves import sum_waves
from grokscope.validation import require_choice

CENTERINGS = ("none", "inputs", "both")


def centred(logits: Array, over: str = "both") -> Tensor:
    """Logits without each class's mean over inputs, and then without each input's over classes.

    Args:
        logits: (n, c).
        over: ``none``, ``inputs`` or ``both``.

    Returns:
        (n, c) float64.

    Raises:
        ValueError: For another ``over``.
    """
    require_choice("over", over, CENTERINGS)
    table = as_double(logits)
    if over != "none":
        table = table - table.mean(0)
    return table - table.mean(1, keepdim=True) if over == "both" else table


def cosine_coefficients(logits: Array) -> Tensor:
    r"""Inner products of the logits with unit waves, which no centring changes.

    .. math:: v_k = \sqrt{2 / p^3} \sum_{a, b, c} L_{ab,c} \cos(w_k (a + b - c))

    Args:
        logits: (p^2, p).

    Returns:
        ((p - 1) / 2,) float64.

    Raises:
        ValueError: For logits of another shape.
    """
    waves = sum_waves(logits, "3d")
    p = waves.shape[1]
    # at s = c the wave is one, and the unit vector sqrt(2 / p^3)
    return waves[:, 0, 0] / (2 / p**3) ** 0.5


def cosine_fraction(logits: Array, key_frequencies: Sequence[int], *, over: str = "both") -> float:
    r"""Share of the squared norm of the logits in these waves, :math:`\sum_k v_k^2 / \|L\|^2`.

    Args:
        logits: (p^2, p).
        key_frequencies: k.
        over: How L is centred: see :func:`centred`.

    Returns:
        NaN for zero logits.

    Raises:
        ValueError: For logits of another shape, frequencies out of range, or another ``over``.
    """
    coefficients = cosine_coefficients(logits)
    last = 2 * len(coefficients) + 1
    rows = torch.tensor(require_frequencies(key_frequencies, last), dtype=torch.int64) - 1
    total = centred(logits, over).square().sum()
    return float(coefficients[rows.to(total.device)].square().sum() / total)


def cosine_similarity(first: Array, second: Array) -> float:
    """Cosine of two arrays as vectors, accumulated in float64; NaN if one is zero.

    Raises:
        ValueError: If they have different shapes.
    """
    a, b = as_double(first), as_double(second)
    if a.shape != b.shape:
        raise ValueError(
            f"first and second must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    return float((a * b).sum() / (a.norm() * b.norm()))
