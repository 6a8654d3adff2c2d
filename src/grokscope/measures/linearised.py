"""What a net would do if it stayed linear in its parameters while it is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grokscope.gradients.network import Inputs, Network, samples_of
from grokscope.gradients.ntk import jacobian_factors
from grokscope.measures.matrices import Array, columns, refuse_above
from grokscope.measures.ntk import MAX_BYTES, kernel_of
from grokscope.validation import require_choice, require_float, require_int

DYNAMICS = ("flow", "descent")


def linearised_outputs(
    net: nn.Module,
    inputs: Inputs,
    targets: Array,
    times: Sequence[float],
    *,
    at: Inputs | None = None,
    rate: float = 1.0,
    dynamics: str = "flow",
    rank_threshold: float = 1e-12,
    max_bytes: int = MAX_BYTES,
    mode: str = "eval",
) -> Tensor:
    r"""Outputs of the net linearised at its present weights, trained with squared error.

    .. math:: f_t(x) = f_0(x) + \Theta(x, X) \, \Theta^{-1} (I - e^{-\eta \Theta t}) (Y - f_0(X)),
        \qquad \Theta = \Theta(X, X)

    the solution of :math:`\dot\theta = -\eta J^\top (f_t(X) - Y)`. Gradient descent of t steps has
    :math:`(I - \eta \Theta)^t` in place of the exponential. The parameters' displacement
    :math:`J^\top \Theta^{-1} (\dots)` is computed and then its effect on x, so no kernel between X
    and x is needed.

    Args:
        net: As for :func:`~grokscope.gradients.empirical_ntk`, with outputs (n, ...) of c numbers.
        inputs: X, (n, ...), or a tuple of such.
        targets: Y, (n,) or (n, c) numbers, or (n,) integers: classes, for one-hot rows.
        times: T times; ``math.inf`` is the end of training.
        at: x, (n', ...); None is X.
        rate: eta, for the loss :math:`\tfrac{1}{2} \sum_i \|f(x_i) - y_i\|^2` of the paper. It is
            lr / n if the loss is half the mean over samples, 2 lr / (n c) for
            ``torch.nn.MSELoss``.
        dynamics: ``flow``, or ``descent``, whose times are whole steps.
        rank_threshold: Modes of the kernel with eigenvalues up to this share of the largest are
            not learned: they would add the noise of rounding (pseudo-inverse at infinite time).
        max_bytes: Memory for the kernel and its decomposition, 24 bytes an entry, and for one
            displacement of all parameters; as much again may be taken for factors.
        mode: As for :func:`~grokscope.gradients.empirical_ntk`.

    Returns:
        (T, n', c), float64.

    Raises:
        ValueError: For targets of another shape, times below zero or not whole, ``descent`` that
            diverges to infinite time (eta times the largest eigenvalue >= 2), an argument out of
            range, or more memory than ``max_bytes``.

    Source:
        Lee et al. 2019, arXiv:1902.06720, eq. 8 to 11.
    """
    require_choice("dynamics", dynamics, DYNAMICS)
    require_float("rate", rate, above=0.0)
    require_float("rank_threshold", rank_threshold, minimum=0.0, below=1.0)
    moments = _moments(times, dynamics)
    factors = jacobian_factors(
        net, inputs, max_bytes=require_int("max_bytes", max_bytes), mode=mode
    )
    start = _outputs(net, inputs, mode)
    missing = (_targets(targets, start) - start).flatten()
    eigenvalues, vectors = torch.linalg.eigh(kernel_of(factors, max_bytes))
    grown = _grown(eigenvalues.clamp_min(0), moments, rate, dynamics, rank_threshold)
    modes = vectors.t() @ missing
    if at is None:
        return start + ((grown * eigenvalues * modes) @ vectors.t()).view(-1, *start.shape)
    weights = (grown * modes) @ vectors.t()
    elsewhere = jacobian_factors(net, at, max_bytes=max_bytes, mode=mode)
    size = factors.layout.size
    refuse_above(max_bytes, 16 * size, f"displacements of {size:,} parameters")
    some = weights.split(max_bytes // (16 * size))
    moved = torch.cat([elsewhere.jvp(factors.vjp(part)) for part in some])
    there = _outputs(net, at, mode)
    return there + moved.view(-1, *there.shape)


def _moments(times: Sequence[float], dynamics: str) -> list[float]:
    moments = [float(time) for time in times]
    if not moments or not all(time >= 0 for time in moments):
        raise ValueError(f"times must be numbers >= 0, at least one, got {list(times)}.")
    whole = all(time == math.inf or time == int(time) for time in moments)
    if dynamics == "descent" and not whole:
        raise ValueError(f"times must be whole steps for dynamics='descent', got {list(times)}.")
    return moments


def _outputs(net: nn.Module, inputs: Inputs, mode: str) -> Tensor:
    """(n, c) float64."""
    network = Network(net, lambda found, _: found.reshape(len(found), -1), mode)
    with network.evaluated(), torch.no_grad():
        return network(samples_of(inputs, None)).double()


def _targets(targets: Array, outputs: Tensor) -> Tensor:
    Y = columns(targets).to(outputs.device)
    if Y.shape != outputs.shape:
        raise ValueError(
            f"targets must be {tuple(outputs.shape)} like the outputs, got {tuple(Y.shape)}."
        )
    return Y


def _grown(
    eigenvalues: Tensor, times: Sequence[float], rate: float, dynamics: str, threshold: float
) -> Tensor:
    """(T, n c): the share of each mode that is learned, over its eigenvalue."""
    largest = float(eigenvalues[-1])
    if dynamics == "descent" and math.inf in times and rate * largest >= 2:
        raise ValueError(
            f"rate must be < {2 / largest:.4g}, 2 over the largest eigenvalue, for descent to "
            f"infinite time, got {rate}."
        )
    learnable = eigenvalues > threshold * largest
    divisor = torch.where(learnable, eigenvalues, torch.inf)
    shares = [_learned(rate * eigenvalues, time, dynamics) for time in times]
    return torch.stack(shares) / divisor


def _learned(speed: Tensor, time: float, dynamics: str) -> Tensor:
    """1 - exp(-speed t) or 1 - (1 - speed)^t, with all digits where that is small."""
    if time == math.inf:
        return torch.ones_like(speed)
    if dynamics == "flow":
        return -torch.expm1(-speed * time)
    slow = -torch.expm1(time * torch.log1p(-speed.clamp_max(0.5)))
    return torch.where(speed < 0.5, slow, 1 - (1 - speed).pow(time))
