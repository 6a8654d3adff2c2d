r"""Two-dimensional Fourier transform of what depends on both inputs (a, b): neurons, logits.

A column x is a function of (a, b), listed by a and then b: row a p + b. Its transform is
:math:`\hat x = F X F^\top`, with X the (p, p) table of x and F of
:func:`~grokscope.measures.fourier_basis.fourier_basis`.

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook
Grokking_Analysis). Arrays and tensors are both taken; everything is computed in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import Array, as_double, fourier_basis, require_odd
from grokscope.validation import require_choice, require_float, require_int

TERMS = ("degree_2", "quadratic", "sum")
_CONSTANT = 1e-26  # share of a column's square that rounding leaves of one without variance


def fourier_transform_2d(values: Array) -> Tensor:
    """F X F^T of each column.

    Args:
        values: (p^2, n).

    Returns:
        (p, p, n) float64; 2 p^3 n multiply-adds.

    Raises:
        ValueError: If the rows are not the square of an odd number, at least 3.
    """
    table = _table(values)
    p = len(table)
    basis = fourier_basis(p).to(table.device)
    return basis @ (basis @ table.flatten(1)).view(table.shape)


def fourier_norm_map(values: Array) -> Tensor:
    """Norm over the columns of each two-dimensional Fourier component: (p, p) float64.

    Args:
        values: (p^2, n).

    Raises:
        ValueError: As in :func:`fourier_transform_2d`.
    """
    return fourier_transform_2d(values).norm(dim=-1)


def explained_variance(values: Array, *, terms: str = "degree_2", pooled: bool = False) -> Tensor:
    r"""Share of each column's variance over all inputs that one frequency explains.

    .. math:: \rho_{k} = \frac{\sum_{(i, j) \in S_k} \hat x_{ij}^2}{\sum_{ab} (x_{ab} - \bar x)^2}

    with S_k, by ``terms``, of frequency k

    - ``degree_2``: the 8 products of {1, cos, sin} of a and of b but the constant: all polynomials
      of degree two in the waves (the paper's "fraction explained").
    - ``quadratic``: the 4 products cos cos, cos sin, sin cos, sin sin.
    - ``sum``: the 2 directions cos(w_k (a + b)) and sin(w_k (a + b)) among these.

    Args:
        values: (p^2, n) neurons' activations or logits.
        terms: One of the above.
        pooled: Sum squares over columns before the division: one number a frequency.

    Returns:
        ((p - 1) / 2, n), or ((p - 1) / 2,) if pooled; NaN for a column without variance, as a dead
        neuron is. p^3 n multiply-adds, and memory for two more copies of ``values``.

    Raises:
        ValueError: For a shape that does not fit, or unknown terms.
    """
    require_choice("terms", terms, TERMS)
    table = _table(values)
    centred = table - table.mean((0, 1))
    total = centred.square().sum((0, 1))
    total[total <= _CONSTANT * table.square().sum((0, 1))] = 0
    power = _power(centred, terms)
    power[:, total == 0] = 0
    return power.sum(1) / total.sum() if pooled else power / total


def neuron_frequencies(explained: Array) -> Tensor:
    """The frequency that explains most of each neuron, 1 to (p - 1) / 2.

    Args:
        explained: ((p - 1) / 2, n) of :func:`explained_variance`.

    Returns:
        (n,) int64; 0 for a neuron without variance. There the notebook says 1 and the library
        (helpers.py) -1, which also never finds the last frequency.

    Raises:
        ValueError: If ``explained`` is not a matrix.
    """
    shares = _shares(explained)
    dead = shares.isnan().any(0)
    return (shares.argmax(0) + 1).masked_fill(dead, 0)


def key_frequencies(
    explained: Array, *, minimum_count: int = 1, minimum_explained: float = 0.0
) -> list[int]:
    """The frequencies that neurons have, ascending.

    At the defaults this is the rule of the notebook: every frequency that is
    :func:`neuron_frequencies` of at least one neuron, however badly it explains it, so that one
    stray neuron adds a frequency. The paper's runs find them once, at the end of training. (The
    library finds them at each epoch, and never the last frequency; a neuron without variance
    gives the notebook frequency 1, and nothing here.)

    Args:
        explained: ((p - 1) / 2, n) of :func:`explained_variance`.
        minimum_count: Neurons that a frequency must have.
        minimum_explained: Share of a neuron's variance below which it is not counted; the paper's
            plots have 0.85.

    Raises:
        ValueError: If ``explained`` is not a matrix, or an option is out of range.

    Example:
        >>> a, b = torch.cartesian_prod(torch.arange(7), torch.arange(7)).unbind(1)
        >>> neurons = torch.stack([(2 * math.pi * k * (a + b) / 7).cos() for k in (1, 3)], 1)
        >>> key_frequencies(explained_variance(neurons))
        [1, 3]
    """
    require_int("minimum_count", minimum_count)
    require_float("minimum_explained", minimum_explained, minimum=0.0, maximum=1.0)
    shares = _shares(explained)
    # NaN is not at least the minimum, so the dead are not counted
    counted = neuron_frequencies(shares)[shares.amax(0) >= minimum_explained]
    counts = torch.bincount(counted, minlength=len(shares) + 1)
    return [int(k) for k in (counts >= minimum_count).nonzero().flatten()]


def grid_size(name: str, values: Tensor) -> int:
    """p, if ``values`` has p^2 rows and p is odd and at least 3; else raise ``ValueError``."""
    rows = values.shape[0] if values.ndim == 2 else 0
    p = math.isqrt(rows)
    if p * p != rows or p < 3 or values.shape[1] == 0:
        raise ValueError(
            f"{name} must be (p^2, n), one row for each pair of inputs, "
            f"got shape {tuple(values.shape)}."
        )
    return require_odd(p)


def _table(values: Array) -> Tensor:
    """(p, p, n)."""
    found = as_double(values)
    p = grid_size("values", found)
    return found.reshape(p, p, -1)


def _power(table: Tensor, terms: str) -> Tensor:
    """Sum of the squared components of each frequency: ((p - 1) / 2, n) of (p, p, n)."""
    p = len(table)
    waves = fourier_basis(p)[1:].to(table.device)
    half = (waves @ table.flatten(1)).view(-1, 2, *table.shape[1:])
    block = waves.view(-1, 1, 2, p) @ half
    if terms == "sum":
        cos = block[:, 0, 0] - block[:, 1, 1]
        sin = block[:, 0, 1] + block[:, 1, 0]
        return (cos.square() + sin.square()) / 2
    found = block.square().sum((1, 2))
    if terms == "quadratic":
        return found
    of_b = (waves @ table.sum(0)).view(-1, 2, table.shape[2])
    return found + (half.sum(2).square() + of_b.square()).sum(1) / p


def _shares(explained: Array) -> Tensor:
    """Explained shares as a matrix."""
    shares = as_double(explained)
    if shares.ndim != 2 or shares.numel() == 0:
        raise ValueError(
            f"explained must be ((p - 1) / 2, n), as explained_variance gives it, "
            f"got shape {tuple(shares.shape)}."
        )
    return shares
