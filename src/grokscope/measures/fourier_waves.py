r"""The part of a net's logits that modular addition puts on each frequency.

For any net: logits L are (p^2, p), row a p + b for the inputs (a, b), and
:math:`s = (a + b) \bmod p`. The directions of frequency k are

- ``2d``: the unit vectors over inputs :math:`u_k, v_k \propto \cos(w_k s), \sin(w_k s)`;
  :math:`P_k = u_k u_k^\top L + v_k v_k^\top L`.
- ``3d``: the unit vector over inputs and classes :math:`C_k \propto \cos(w_k (s - c))`;
  :math:`P_k = \langle C_k, L \rangle C_k`.

The paper speaks of 20 terms for 5 frequencies, the products of waves of a and of b; the code, as
here, keeps two directions each.

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook
Grokking_Analysis). Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import (
    Array,
    as_double,
    fourier_basis,
    require_frequencies,
)
from grokscope.measures.fourier_grid import grid_size
from grokscope.validation import require_choice, require_float

DIRECTIONS = ("2d", "3d")
_ROUNDING = 1e-13


def sum_waves(logits: Array, directions: str = "2d") -> Tensor:
    """What of the logits is along each frequency's directions, P_k.

    It depends on the inputs through s = (a + b) mod p alone.

    Args:
        logits: (p^2, p).
        directions: ``2d`` or ``3d``.

    Returns:
        ((p - 1) / 2, p, p) float64, by frequency, s and class. 3 p^3 multiply-adds.

    Raises:
        ValueError: For logits of another shape, or unknown directions.
    """
    require_choice("directions", directions, DIRECTIONS)
    table = square_logits(logits)
    p = table.shape[1]
    waves = fourier_basis(p)[1:].to(table.device).view(-1, 2, p)
    by_wave = waves @ _summed(table)
    if directions == "2d":
        return waves.mT @ by_wave / p
    coefficients = (by_wave * waves).sum((1, 2))
    return coefficients[:, None, None] * (waves.mT @ waves) / (2 * p)


def restricted_logits(
    logits: Array, key_frequencies: Sequence[int], *, bias_correction: bool = True
) -> Tensor:
    """The logits along the 2d directions of the key frequencies, and nothing else.

    Args:
        logits: (p^2, p).
        key_frequencies: k.
        bias_correction: Add each class's mean logit over all inputs, as the code does; without
            it the loss is very different. (The notebook adds the final net's means to every
            earlier net for the accuracy; here they are the net's own.)

    Returns:
        (p^2, p) float64.

    Raises:
        ValueError: For logits of another shape, or frequencies out of range.
    """
    table = square_logits(logits)
    kept = _along(table, key_frequencies, "2d")
    return kept + table.mean(0) if bias_correction else kept


def excluded_logits(
    logits: Array, key_frequencies: Sequence[int], *, directions: str = "2d"
) -> Tensor:
    """The logits without the directions of the key frequencies, (p^2, p) float64.

    Args:
        logits: (p^2, p).
        key_frequencies: k.
        directions: ``2d`` or ``3d``.

    Raises:
        ValueError: For logits of another shape, frequencies out of range, or unknown directions.
    """
    table = square_logits(logits)
    return table - _along(table, key_frequencies, directions)


def dominant_frequencies(logits: Array, *, fraction: float = 0.25) -> list[int]:
    r"""The frequencies that stand out in the logits of any net, ascending.

    Those of which :math:`\|P_k\|` (2d) is at least ``fraction`` of the largest; none where the
    logits have no such part but for rounding. Our rule, for nets without known neurons; a demo of
    the authors' takes a quarter on norms of W_E.

    Args:
        logits: (p^2, p).
        fraction: Above 0, at most 1.

    Raises:
        ValueError: For logits of another shape, or a fraction out of range.
    """
    require_float("fraction", fraction, above=0.0, maximum=1.0)
    table = square_logits(logits)
    norms = sum_waves(table).flatten(1).norm(dim=1)
    chosen = (norms > _ROUNDING * table.norm()) & (norms >= fraction * norms.max())
    return [int(k) + 1 for k in chosen.nonzero().flatten()]


def sums(p: int, device: torch.device) -> Tensor:
    """(a + b) mod p of each input, (p^2,) int64."""
    residues = torch.arange(p, device=device)
    return ((residues[:, None] + residues) % p).flatten()


def square_logits(logits: Array) -> Tensor:
    """Return them as (p^2, p) float64, else raise ``ValueError``."""
    table = as_double(logits)
    p = grid_size("logits", table)
    if table.shape[1] != p:
        raise ValueError(
            f"logits must be ({p * p}, {p}), without further classes such as '=', "
            f"got shape {tuple(table.shape)}."
        )
    return table


def _along(table: Tensor, key_frequencies: Sequence[int], directions: str) -> Tensor:
    """Sum of P_k over key frequencies, (p^2, p)."""
    p = table.shape[1]
    chosen = torch.tensor(require_frequencies(key_frequencies, p), dtype=torch.int64) - 1
    waves = sum_waves(table, directions)
    return waves[chosen.to(table.device)].sum(0)[sums(p, table.device)]


def _summed(table: Tensor) -> Tensor:
    """Logits summed over all inputs of the same s, (p, p)."""
    p = table.shape[1]
    return table.new_zeros(p, p).index_add_(0, sums(p, table.device), table)
