r"""All progress measures of the transformer of modular addition, under fixed names.

Names say what is measured; the endings say on which inputs (``_all``, ``_train``, ``_test``), or
that there is one number a frequency (``_by_freq``, from 1 to (p - 1) / 2). Formulas:
:mod:`~grokscope.measures.fourier_basis`, :mod:`~grokscope.measures.fourier_grid`,
:mod:`~grokscope.measures.fourier_waves`, :mod:`~grokscope.measures.fourier_losses`,
:mod:`~grokscope.measures.fourier_cosines` and :mod:`~grokscope.measures.nanda_transformer`.

Source: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook Grokking_Analysis),
in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grokscope.measures import fourier_grid
from grokscope.measures.fourier_basis import (
    Array,
    fourier_norms,
    gini_variants,
    key_fraction,
)
from grokscope.measures.fourier_grid import explained_variance
from grokscope.measures.nanda_logits import logit_measures
from grokscope.measures.nanda_transformer import (
    Activations,
    TransformerWeights,
    activations,
    attention_fourier,
)

EXPLAINED = 0.85
"""Share of a neuron's variance above which the paper's plots give it a frequency."""

Measures = dict[str, Any]


def nanda_measures(
    weights: Mapping[str, Any],
    modulus: int,
    train_mask: Array,
    key_frequencies: Sequence[int] | None = None,
) -> Measures:
    """Every measure of a transformer.

    Args:
        weights: The authors' names -> arrays or tensors, of the shapes
            :data:`~grokscope.measures.nanda_transformer.SHAPES`.
        modulus: p, odd.
        train_mask: (p^2,) bool, row a p + b.
        key_frequencies: Those of the restricted and excluded losses. None finds them by the
            notebook's rule (:func:`~grokscope.measures.fourier_grid.key_frequencies`); the paper
            finds them at the end of training and holds them.

    Returns:
        Name -> number or array, or for ``gini_W_E`` and ``gini_W_L`` a dictionary of four
        variants: those of :func:`weight_measures`, :func:`neuron_measures` and
        :func:`logit_measures`.

    Raises:
        ValueError: For weights or a mask that do not fit, or frequencies out of range.
    """
    w = TransformerWeights.of(weights, modulus)
    found = activations(w, modulus)
    explained = explained_variance(found.neurons)
    if key_frequencies is None:
        key_frequencies = fourier_grid.key_frequencies(explained)
    return {
        **weight_measures(w, key_frequencies),
        **neuron_measures(found, explained),
        **logit_measures(found.logits, train_mask, key_frequencies),
    }


def weight_measures(w: TransformerWeights, key_frequencies: Sequence[int]) -> Measures:
    """What depends on the weights alone.

    Norms and Gini coefficients of the Fourier components of W_E and of the neuron-logit map W_L;
    the key frequencies' share of their squares; sums of squares of all weights, biases and "="
    included, by parameter in the order of
    :data:`~grokscope.measures.nanda_transformer.SHAPES`.

    Raises:
        ValueError: For frequencies out of range.
    """
    squares = torch.stack([weight.square().sum() for weight in w.by_name.values()])
    W_L = w.neuron_logit_map
    of_E, of_L = fourier_norms(w.embedding), fourier_norms(W_L, axis=0)
    return {
        "W_E_fourier_norms": _array(of_E),
        "W_L_fourier_norms": _array(of_L),
        "W_attn_fourier": _array(attention_fourier(w, w.modulus)),
        "W_L_frob": float(W_L.norm()),
        "W_E_key_fraction_of_sq_norm": key_fraction(of_E, key_frequencies),
        "W_L_key_fraction_of_sq_norm": key_fraction(of_L, key_frequencies),
        "gini_W_E": gini_variants(of_E),
        "gini_W_L": gini_variants(of_L),
        "sum_sq_weights_by_param": _array(squares),
        "sum_sq_weights_total": float(squares.sum()),
    }


def neuron_measures(found: Activations, explained: Tensor) -> Measures:
    """What depends on hidden units and attention.

    The fraction that the best frequency explains of each neuron (NaN for a dead one), how many
    have :data:`EXPLAINED` of it; the squared norm of each centred neuron; the fraction of all
    neurons' squares that each frequency explains; mean and standard deviation (divided by p^2) of
    each head's attention on a and on b.

    Args:
        found: At all inputs.
        explained: What :func:`~grokscope.measures.fourier_grid.explained_variance` gives of the
            neurons.
    """
    best = explained.amax(0)
    centred_neurons = found.neurons - found.neurons.mean(0)
    norms = centred_neurons.square().sum(0)
    weights = norms / norms.sum()
    on_tokens = found.attention[..., :2]
    return {
        "neuron_frac_explained": _array(best),
        "neurons_frac_ge_085": float((best >= EXPLAINED).sum()),
        "neuron_norms_sq": _array(norms),
        "neurons_pooled_fve_by_freq": _array(explained.nan_to_num(0.0) @ weights),
        "attn_mean_by_head_pos": _array(on_tokens.mean(0)),
        "attn_std_by_head_pos": _array(on_tokens.std(0, correction=0)),
    }


def _array(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.cpu().numpy()
