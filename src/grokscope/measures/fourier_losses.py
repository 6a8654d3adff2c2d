r"""Losses of modular addition with some frequencies of the logits taken out, or kept alone.

For any net: logits are (p^2, p), row a p + b for the inputs (a, b), and the answer is
:math:`s = (a + b) \bmod p`. What a frequency has of the logits, along its ``2d`` or ``3d``
directions, is :mod:`grokscope.measures.fourier_waves`: from the logits of all inputs, also where
the loss is that of some.

Losses are mean cross entropies in float64, log(1 + sum of the wrong classes' odds), so that they
are right far below 1e-16.

Source of everything here: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook
Grokking_Analysis).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import Array, as_double
from grokscope.measures.fourier_grid import grid_size
from grokscope.measures.fourier_waves import (
    excluded_logits,
    restricted_logits,
    square_logits,
    sum_waves,
    sums,
)


@dataclass(frozen=True)
class SampleScores:
    """Of some inputs, one by one.

    Attributes:
        losses: (..., n) float64, cross entropies in nats.
        hits: (..., n) bool, whether the answer's logit is above all others; a tie is a miss.
    """

    losses: Tensor
    hits: Tensor

    def of(self, mask: Tensor) -> SampleScores:
        """Those of the inputs where ``mask`` (n,) is true."""
        return SampleScores(self.losses[..., mask], self.hits[..., mask])

    @property
    def loss(self) -> Tensor:
        """(...) means; NaN without inputs."""
        return self.losses.mean(-1)

    @property
    def accuracy(self) -> Tensor:
        """(...) shares of hits; NaN without inputs."""
        return self.hits.double().mean(-1)


def addition_scores(logits: Array, mask: Array | None = None) -> SampleScores:
    """Cross entropy and hit of each input, for the answer (a + b) mod p.

    Args:
        logits: (p^2, c), c >= p; classes from p on, such as "=", count as wrong answers.
        mask: (p^2,) bool, inputs to take; None takes all.

    Raises:
        ValueError: For a shape that does not fit.
    """
    table = as_double(logits)
    p = grid_size("logits", table)
    if table.shape[1] < p:
        raise ValueError(f"logits must have at least {p} columns, got {table.shape[1]}.")
    rows = _rows(mask, p, table.device)
    answers = sums(p, table.device)[rows]
    return _scores(_margins(table[rows], answers))


def restricted_loss(
    logits: Array,
    key_frequencies: Sequence[int],
    mask: Array | None = None,
    *,
    bias_correction: bool = True,
) -> float:
    """Loss of a net that has nothing but the key frequencies ("trig loss"), on all inputs.

    It means something for a small set of frequencies that is fixed over training. With most of
    them, the projection is about the mean logit of all pairs of the same sum, which knows the
    answers that were memorised.

    Args:
        logits: (p^2, p).
        key_frequencies: k.
        mask: (p^2,) bool, other inputs than all.
        bias_correction: See :func:`restricted_logits`.

    Raises:
        ValueError: For a shape that does not fit, or frequencies out of range.
    """
    kept = restricted_logits(logits, key_frequencies, bias_correction=bias_correction)
    return float(addition_scores(kept, mask).loss)


def excluded_loss(
    logits: Array,
    key_frequencies: Sequence[int],
    train_mask: Array,
    *,
    directions: str = "2d",
) -> float:
    """Training loss of a net without the key frequencies, all taken out at once.

    One at a time: :func:`ablated_loss`. There is no bias correction.

    Args:
        logits: (p^2, p).
        key_frequencies: k.
        train_mask: (p^2,) bool, the training inputs.
        directions: ``2d``, which the paper's figures show, or ``3d``.

    Raises:
        ValueError: For a shape that does not fit, frequencies out of range, or unknown
            directions.
    """
    rest = excluded_logits(logits, key_frequencies, directions=directions)
    return float(addition_scores(rest, train_mask).loss)


def ablated_loss(logits: Array, mask: Array | None = None, *, directions: str = "2d") -> Tensor:
    """Loss without one frequency, for each: on training inputs, the excluded loss of each.

    Args:
        logits: (p^2, p).
        mask: (p^2,) bool, inputs that the loss is taken on; None takes all.
        directions: ``2d`` or ``3d``.

    Returns:
        ((p - 1) / 2,) float64.

    Raises:
        ValueError: For a shape that does not fit, or unknown directions.
    """
    return ablated_scores(logits, mask, directions=directions).loss


def ablated_scores(
    logits: Array, mask: Array | None = None, *, directions: str = "2d"
) -> SampleScores:
    """Cross entropy and hit of each input without one frequency: ((p - 1) / 2, n) each.

    Args:
        logits: (p^2, p).
        mask: As in :func:`ablated_loss`.
        directions: As there.

    Raises:
        ValueError: As there.
    """
    table = square_logits(logits)
    p = table.shape[1]
    rows = _rows(mask, p, table.device)
    answers = sums(p, table.device)[rows]
    margins, waves = _margins(table[rows], answers), sum_waves(table, directions)
    shifts = waves - waves.diagonal(dim1=1, dim2=2)[..., None]  # margins of what is taken out
    room, each = torch.empty_like(margins), []
    for shift in shifts:
        torch.index_select(shift, 0, answers, out=room)
        each.append(_scores(torch.sub(margins, room, out=room)))
    return SampleScores(
        torch.stack([scores.losses for scores in each]),
        torch.stack([scores.hits for scores in each]),
    )


def _margins(logits: Tensor, answers: Tensor) -> Tensor:
    """Logits minus that of the answer; -inf for the answer itself."""
    found = logits - logits.gather(1, answers[:, None])
    return found.scatter_(1, answers[:, None], -math.inf)


def _scores(margins: Tensor) -> SampleScores:
    """Of margins (n, c), -inf at the answer, which are overwritten."""
    largest = margins.amax(1)
    odds = margins.sub_(largest[:, None]).exp_().sum(1)
    losses = torch.logaddexp(margins.new_zeros(()), largest + odds.log())
    return SampleScores(losses, largest < 0)


def _rows(mask: Array | None, p: int, device: torch.device) -> Tensor:
    """Row numbers where ``mask`` is true."""
    if mask is None:
        return torch.arange(p * p, device=device)
    return require_mask("mask", mask, p, device).nonzero().flatten()


def require_mask(name: str, mask: Array, p: int, device: torch.device) -> Tensor:
    """Return it as a tensor if it is (p^2,) of bool, else raise ``ValueError``."""
    found = torch.as_tensor(mask, device=device)
    if found.shape != (p * p,) or found.dtype != torch.bool:
        raise ValueError(
            f"{name} must be ({p * p},) of bool, got {tuple(found.shape)} of {found.dtype}."
        )
    return found
