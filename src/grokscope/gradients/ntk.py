"""Empirical neural tangent kernels, by the same contractions as per-sample gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from grokscope.gradients.capture import Captured
from grokscope.gradients.factors import Factors
from grokscope.gradients.forms import Form, Outer, Rows, Token
from grokscope.gradients.network import Inputs, Network, samples_of
from grokscope.validation import require_choice

PER_SAMPLE = {Outer: ("left", "right"), Token: ("token", "delta"), Rows: ("values",)}


def empirical_ntk(
    net: nn.Module,
    inputs: Inputs,
    outputs: str = "trace",
    *,
    max_bytes: int = 2**31,
    mode: str = "eval",
) -> Tensor:
    r"""Empirical neural tangent kernel of a net, in float64.

    .. math::
        \Theta_{ij} = \sum_c \langle \partial_\theta f_c(x_i), \partial_\theta f_c(x_j) \rangle

    (``trace``), or every pair of outputs (``full``). Not divided by the number of outputs. One
    forward pass, c backward passes, and the contractions of
    :meth:`~grokscope.gradients.Factors.gram`; ``trace`` multiplies the inputs of a layer once
    for all outputs.

    Args:
        net: Any module that treats samples separately, with outputs (n, ...) of c numbers.
        inputs: (n, ...), or a tuple of such.
        outputs: ``trace`` or ``full``.
        max_bytes: As in :func:`~grokscope.gradients.capture`; it takes c times as much here.
        mode: As in :func:`~grokscope.gradients.capture`.

    Returns:
        (n, n), or (n c, n c) with the outputs of a sample next to each other.

    Raises:
        ValueError: As :func:`~grokscope.gradients.capture`.

    Source:
        Jacot et al. 2018, arXiv:1806.07572; Novak et al. 2022, arXiv:2206.08720.
    """
    require_choice("outputs", outputs, ("trace", "full"))
    if outputs == "full":
        return jacobian_factors(net, inputs, max_bytes=max_bytes, mode=mode).gram()
    captured = _captured(net, inputs, max_bytes, mode)
    captured.join = side_by_side
    return Factors(captured).gram()


def jacobian_factors(
    net: nn.Module, inputs: Inputs, *, max_bytes: int = 2**31, mode: str = "eval"
) -> Factors:
    """The Jacobian J (n c, m) of all outputs in factor form; its Gram matrix is the full kernel.

    Args:
        net: As for :func:`empirical_ntk`.
        inputs: (n, ...), or a tuple of such.
        max_bytes: As there.
        mode: As there.

    Returns:
        A row for each output of each sample, those of a sample next to each other.

    Raises:
        ValueError: As :func:`~grokscope.gradients.capture`.
    """
    captured = _captured(net, inputs, max_bytes, mode)
    captured.join, captured.rows_a_sample = interleaved, len(captured.heads)
    return Factors(captured)


def _captured(net: nn.Module, inputs: Inputs, max_bytes: int, mode: str) -> Captured:
    network = Network(net, lambda found, _: found.reshape(len(found), -1), mode)
    return Captured(network, samples_of(inputs, None), max_bytes)


def side_by_side(forms: list[Form]) -> Form:
    """One row a sample with the gradients of all outputs in it."""
    outers = [form for form in forms if isinstance(form, Outer)]
    if outers and all(torch.equal(form.right, outers[0].right) for form in outers):
        left = torch.cat([form.left for form in outers], dim=-1)
        return Outer(
            left, outers[0].right, None, left.shape[1] * left.shape[-1] * outers[0].right.shape[-1]
        )
    tokens = [form for form in forms if isinstance(form, Token)]
    if tokens:
        delta = torch.cat([form.delta for form in tokens], dim=-1)
        return Token(tokens[0].token, delta, None, tokens[0].vocabulary * delta.shape[-1])
    values = torch.cat([f.values if isinstance(f, Rows) else f.rows() for f in forms], dim=-1)
    return Rows(values, None, values.shape[1])


def interleaved(forms: list[Form]) -> Form:
    """A row for each output of a sample, those of a sample next to each other."""
    fields = PER_SAMPLE[type(forms[0])]
    stacked: dict[str, Any] = {
        name: torch.stack([getattr(form, name) for form in forms], 1).flatten(0, 1)
        for name in fields
    }
    return replace(forms[0], **stacked)
