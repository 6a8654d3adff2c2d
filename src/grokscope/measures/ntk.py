r"""The spectrum of a net's empirical tangent kernel, and its modes in outputs and parameters.

J (n c, m) is the Jacobian of the c outputs of n samples with respect to the m parameters, the
outputs of a sample next to each other, and :math:`\Theta = J J^\top`. J is never written out:
its products come from the layer factors of :mod:`grokscope.gradients`. Everything is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grokscope.gradients import Factors, empirical_ntk
from grokscope.gradients.layout import GradientLayout
from grokscope.gradients.network import Inputs, samples_of
from grokscope.gradients.ntk import jacobian_factors
from grokscope.measures.matrices import refuse_above
from grokscope.validation import require_choice, require_float, require_int

MAX_BYTES = 2**31


@dataclass(frozen=True)
class NTKModes:
    r"""The largest singular values of a Jacobian, :math:`J \approx U S V^\top`.

    Attributes:
        singular_values: (k,), descending, output / parameter.
        left: U (n c, k), eigenvectors of the tangent kernel: patterns of outputs.
        right: V' (k, m), orthonormal directions of the parameters, those that move the outputs
            by the patterns.
        layout: Where each parameter lies among the m columns.
    """

    singular_values: Tensor
    left: Tensor
    right: Tensor
    layout: GradientLayout

    @property
    def eigenvalues(self) -> Tensor:
        """Of the tangent kernel (k,)."""
        return self.singular_values.square()


def ntk_spectrum(
    net: nn.Module,
    inputs: Inputs,
    outputs: str = "trace",
    *,
    max_bytes: int = MAX_BYTES,
    mode: str = "eval",
) -> Tensor:
    """All eigenvalues of a net's neural tangent kernel, descending; rounding below zero is zero.

    Args:
        net: As for :func:`~grokscope.gradients.empirical_ntk`.
        inputs: (n, ...), or a tuple of such.
        outputs: ``trace``: of the kernel (n, n) summed over outputs; ``full``: of (n c, n c).
        max_bytes: Memory for the kernel and its decomposition, 24 bytes an entry; as much again
            may be taken for factors.
        mode: As for :func:`~grokscope.gradients.empirical_ntk`.

    Returns:
        (n,) or (n c,).

    Raises:
        ValueError: If the kernel takes more than ``max_bytes``, and as
            :func:`~grokscope.gradients.empirical_ntk`.
    """
    require_choice("outputs", outputs, ("trace", "full"))
    require_int("max_bytes", max_bytes)
    if outputs == "trace":
        _refuse_large(len(samples_of(inputs, None)), max_bytes)
        kernel = empirical_ntk(net, inputs, max_bytes=max_bytes, mode=mode)
    else:
        kernel = kernel_of(
            jacobian_factors(net, inputs, max_bytes=max_bytes, mode=mode), max_bytes
        )
    return torch.linalg.eigvalsh(kernel).flip(0).clamp_min(0)


def ntk_svd(
    net: nn.Module,
    inputs: Inputs,
    top_k: int = 10,
    *,
    rank_threshold: float = 1e-10,
    max_bytes: int = MAX_BYTES,
    mode: str = "eval",
) -> NTKModes:
    r"""Singular values and vectors of a net's Jacobian, from its tangent kernel.

    .. math:: \Theta u_i = s_i^2 u_i, \qquad v_i = J^\top u_i / s_i

    Rounding leaves the v_i orthogonal up to about :math:`10^{-16} s_1^2 / (s_i s_j)`.

    Args:
        net: As for :func:`~grokscope.gradients.empirical_ntk`.
        inputs: (n, ...), or a tuple of such.
        top_k: How many; fewer come back if the rank is lower.
        rank_threshold: Eigenvalues of the kernel up to this share of the largest count as zero.
        max_bytes: Memory for the kernel and its decomposition, 24 bytes an entry, and for the
            directions, 16 bytes an entry; as much again may be taken for factors.
        mode: As for :func:`~grokscope.gradients.empirical_ntk`.

    Raises:
        ValueError: If that is more than ``max_bytes``, an argument is out of range, and as
            :func:`~grokscope.gradients.empirical_ntk`.
    """
    require_int("top_k", top_k)
    require_float("rank_threshold", rank_threshold, minimum=0.0, below=1.0)
    require_int("max_bytes", max_bytes)
    factors = jacobian_factors(net, inputs, max_bytes=max_bytes, mode=mode)
    size, kept = factors.layout.size, min(top_k, factors.n_samples)
    refuse_above(max_bytes, 16 * kept * size, f"{kept} directions of {size:,} parameters")
    eigenvalues, vectors = torch.linalg.eigh(kernel_of(factors, max_bytes))
    eigenvalues, vectors = eigenvalues.flip(0)[:kept], vectors.flip(1)[:, :kept]
    rank = int((eigenvalues > rank_threshold * eigenvalues[0].clamp_min(0)).sum())
    values, left = eigenvalues[:rank].sqrt(), vectors[:, :rank]
    return NTKModes(values, left, factors.vjp(left.t()) / values[:, None], factors.layout)


def ntk_eigenvector(net: nn.Module, inputs: Tensor, index: int) -> Tensor:
    """An eigenvector of a net's neural tangent kernel, as labels whose mean square is one.

    Args:
        net: With one output a sample.
        inputs: (n, ...).
        index: 1 is that of the largest eigenvalue.

    Returns:
        (n, 1), float64; the entry of largest absolute value is positive.

    Raises:
        ValueError: For an index above n, or more than one output.
    """
    n = len(inputs)
    require_int("index", index, maximum=n)
    with torch.no_grad():
        outputs = net(inputs[:1]).numel()
    if outputs != 1:
        raise ValueError(f"net must have one output for eigenvector labels, got {outputs}.")
    vector = torch.linalg.eigh(empirical_ntk(net, inputs))[1][:, n - index]
    vector = vector * torch.sign(vector[vector.abs().argmax()])
    return vector[:, None] * math.sqrt(n)


def kernel_of(factors: Factors, max_bytes: int) -> Tensor:
    """The kernel J J', if it and its decomposition fit."""
    _refuse_large(factors.n_samples, max_bytes)
    return factors.gram()


def _refuse_large(rows: int, max_bytes: int) -> None:
    refuse_above(max_bytes, 24 * rows * rows, f"a kernel of {rows:,} x {rows:,}, decomposed")
