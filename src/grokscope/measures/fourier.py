"""Fourier measures of nets that learn modular arithmetic: how periodic weights are, and more.

Those of Nanda et al. 2023 are in files of their own and are named here too:
:mod:`~grokscope.measures.fourier_basis` of a matrix, :mod:`~grokscope.measures.fourier_grid` of
functions of both inputs; :mod:`~grokscope.measures.fourier_waves`,
:mod:`~grokscope.measures.fourier_losses`, :mod:`~grokscope.measures.fourier_cosines` and, all
together, :mod:`~grokscope.measures.nanda_logits` of any net's logits;
:mod:`~grokscope.measures.nanda_transformer` inside the transformer, and
:mod:`~grokscope.measures.nanda` everything of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grokscope.measures.fourier_basis import (
    fourier_basis,
    fourier_components,
    fourier_norms,
    frequency_norms,
    gini,
    gini_variants,
    key_fraction,
)
from grokscope.measures.fourier_cosines import (
    centred,
    cosine_coefficients,
    cosine_fraction,
    cosine_similarity,
)
from grokscope.measures.fourier_grid import (
    explained_variance,
    fourier_norm_map,
    fourier_transform_2d,
    key_frequencies,
    neuron_frequencies,
)
from grokscope.measures.fourier_losses import (
    ablated_loss,
    ablated_scores,
    addition_scores,
    excluded_loss,
    restricted_loss,
)
from grokscope.measures.fourier_waves import (
    dominant_frequencies,
    excluded_logits,
    restricted_logits,
    sum_waves,
)
from grokscope.measures.nanda import nanda_measures
from grokscope.measures.nanda_logits import logit_measures
from grokscope.measures.nanda_transformer import (
    activations,
    attention_fourier,
    neuron_logit_map,
)
from grokscope.validation import require_float

__all__ = [
    "ablated_loss",
    "ablated_scores",
    "activations",
    "addition_scores",
    "attention_fourier",
    "centred",
    "cosine_coefficients",
    "cosine_fraction",
    "cosine_similarity",
    "dominant_frequencies",
    "excluded_logits",
    "excluded_loss",
    "explained_variance",
    "fourier_basis",
    "fourier_components",
    "fourier_norm_map",
    "fourier_norms",
    "fourier_transform_2d",
    "frequency_norms",
    "gini",
    "gini_variants",
    "inverse_participation_ratio",
    "key_fraction",
    "key_frequencies",
    "logit_measures",
    "nanda_measures",
    "neuron_frequencies",
    "neuron_logit_map",
    "neuron_periodicity",
    "restricted_logits",
    "restricted_loss",
    "sum_waves",
]


def inverse_participation_ratio(
    vectors: Tensor, *, order: Sequence[int] | None = None, power: float = 2.0
) -> Tensor:
    r"""How few Fourier modes a vector is made of: 1 for one cosine, about 4 / n for noise.

    .. math:: IPR(u) = \frac{\sum_\nu |F_\nu u|^{2r}}{(\sum_\nu |F_\nu u|^2)^r}

    over the modes :math:`\nu = 0, ..., \lfloor n / 2 \rfloor` of the real transform. With all n
    modes, as the papers write it, a pure cosine would have 1/2; with these it has 1, as they say,
    and their code takes these.

    Args:
        vectors: (..., n).
        order: Positions to take, in this order: the powers of a primitive root for a net that
            multiplies (:func:`grokscope.arithmetic.powers_of_a_primitive_root`).
        power: r, above 1.

    Returns:
        (...,) float64; NaN for vectors of zeros.

    Source:
        Gromov 2023, arXiv:2301.02679; Doshi et al. 2024, arXiv:2310.13061, eq. 3, and
        d-doshi/Grokking:utils/data_processing.py; the order, Doshi et al. 2024,
        arXiv:2406.03495, section 4.
    """
    require_float("power", power, above=1.0)
    if order is not None:
        vectors = vectors[..., torch.as_tensor(order, device=vectors.device)]
    amplitudes = torch.fft.rfft(vectors.double()).abs()
    squares = (amplitudes / amplitudes.amax(-1, keepdim=True)).square()
    return (squares / squares.sum(-1, keepdim=True)).pow(power).sum(-1)


def neuron_periodicity(
    first: Tensor,
    last: Tensor,
    *,
    order: Sequence[int] | None = None,
    power: float = 2.0,
) -> Tensor:
    """Mean inverse participation ratio of all that a hidden unit reads and writes.

    Args:
        first: Weights from S one-hot blocks of p, (h, S p): S vectors a unit.
        last: Weights to p logits, (p, h): one column a unit.
        order: As in :func:`inverse_participation_ratio`.
        power: As there.

    Returns:
        (h,) float64, the mean over the S + 1 vectors of each unit.

    Raises:
        ValueError: If the inputs are not blocks of p.

    Source:
        Doshi et al. 2024, arXiv:2310.13061, section 2 (S = 2), and arXiv:2406.03495.
    """
    h, p = first.shape[0], last.shape[0]
    if first.shape[1] % p or last.shape[1] != h:
        raise ValueError(
            f"first must be (h, S p) and last (p, h), got {tuple(first.shape)} and "
            f"{tuple(last.shape)}."
        )
    vectors = torch.cat([first.reshape(h, -1, p), last.t()[:, None]], dim=1)
    return inverse_participation_ratio(vectors, order=order, power=power).mean(-1)
