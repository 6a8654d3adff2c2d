r"""All progress measures of modular addition that need nothing but logits, of any net.

Names: see :mod:`grokscope.measures.nanda`.

Source: Nanda et al. 2023, arXiv:2301.05217, and the authors' code (notebook Grokking_Analysis),
in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grokscope.measures.fourier_basis import Array, as_double
from grokscope.measures.fourier_cosines import (
    centred,
    cosine_coefficients,
    cosine_fraction,
    cosine_similarity,
)
from grokscope.measures.fourier_grid import explained_variance, grid_size
from grokscope.measures.fourier_losses import ablated_scores, addition_scores, require_mask
from grokscope.measures.fourier_waves import excluded_logits, restricted_logits

Measures = dict[str, Any]


def logit_measures(logits: Array, train_mask: Array, key_frequencies: Sequence[int]) -> Measures:
    """What depends on the logits alone, of any net of modular addition.

    Losses and accuracies; restricted, excluded and ablated ones; cosines with
    cos(w_k (a + b - c)); the share of the logits that each frequency explains.

    Args:
        logits: (p^2, p), or (p^2, p + 1) with "=" last: it counts in ``*_with_eq_logit`` only,
            which are left out without it.
        train_mask: (p^2,) bool; means over no inputs are NaN.
        key_frequencies: k.

    Raises:
        ValueError: For a shape that does not fit, or frequencies out of range.
    """
    table = as_double(logits)
    p = grid_size("logits", table)
    masks = _masks(train_mask, p, table.device)
    found: Measures = {}
    if table.shape[1] == p + 1:
        with_equals = addition_scores(table)
        for split in ("train", "test"):
            loss = with_equals.of(masks[split]).loss
            found[f"loss_{split}_with_eq_logit"] = float(loss)
        table = table[:, :p].contiguous()
    found |= _plain(table, masks)
    found |= _restricted(table, masks, key_frequencies)
    found |= _excluded(table, masks, key_frequencies)
    found |= _one_by_one(table, masks)
    return found | _cosines(table, key_frequencies) | _shares(table)


def _plain(table: Tensor, masks: Mapping[str, Tensor]) -> Measures:
    scores = addition_scores(table)
    found: Measures = {}
    for name, mask in masks.items():
        found[f"loss_{name}"] = float(scores.of(mask).loss)
        found[f"acc_{name}"] = float(scores.of(mask).accuracy)
    return found


def _restricted(
    table: Tensor, masks: Mapping[str, Tensor], key_frequencies: Sequence[int]
) -> Measures:
    bare = restricted_logits(table, key_frequencies, bias_correction=False)
    kept = bare + table.mean(0)
    scores, without = addition_scores(kept), addition_scores(bare)
    found: Measures = {
        "cos_sim_trig_vs_logits": cosine_similarity(bare, table),
        "cos_sim_trig_biascorr_vs_logits": cosine_similarity(kept, table),
        "cos_sim_trig_vs_centred_logits": cosine_similarity(bare, centred(table, "inputs")),
    }
    for name, mask in masks.items():
        found[f"restricted_loss_{name}"] = float(scores.of(mask).loss)
        found[f"restricted_acc_{name}"] = float(scores.of(mask).accuracy)
        found[f"restricted_loss_nobias_{name}"] = float(without.of(mask).loss)
    return found


def _excluded(
    table: Tensor, masks: Mapping[str, Tensor], key_frequencies: Sequence[int]
) -> Measures:
    found: Measures = {}
    for directions in ("2d", "3d"):
        rest = excluded_logits(table, key_frequencies, directions=directions)
        scores = addition_scores(rest)
        train = scores.of(masks["train"])
        found[f"excluded_loss_{directions}_train_all_key"] = float(train.loss)
        found[f"excluded_acc_{directions}_train_all_key"] = float(train.accuracy)
        if directions == "2d":
            for name in ("all", "test"):
                loss = scores.of(masks[name]).loss
                found[f"excluded_loss_2d_{name}_all_key"] = float(loss)
    return found


def _one_by_one(table: Tensor, masks: Mapping[str, Tensor]) -> Measures:
    flat = ablated_scores(table)
    train = {
        "2d": flat.of(masks["train"]),
        "3d": ablated_scores(table, masks["train"], directions="3d"),
    }
    found: Measures = {}
    for directions, scores in train.items():
        found[f"excluded_loss_{directions}_train_by_freq"] = _array(scores.loss)
        found[f"excluded_acc_{directions}_train_by_freq"] = _array(scores.accuracy)
    for name in ("all", "test"):
        found[f"ablate_freq_loss_{name}"] = _array(flat.of(masks[name]).loss)
    return found


def _cosines(table: Tensor, key_frequencies: Sequence[int]) -> Measures:
    coefficients = cosine_coefficients(table)
    found: Measures = {
        "cos_coeffs_by_freq": _array(coefficients),
        "cos_sim_by_freq": _array(coefficients / table.norm()),
    }
    names = {"none": "", "inputs": "centred", "both": "double_centred"}
    for over, name in names.items():
        fraction = cosine_fraction(table, key_frequencies, over=over)
        found[f"cos_terms_fve_key_{name or 'raw'}"] = fraction
        found[f"logits_{name}_norm".replace("__", "_")] = float(centred(table, over).norm())
    # the waves are orthogonal, so the cosine of their sum is the root of their share
    for over, name in (("none", "logits"), ("inputs", "centred_logits")):
        fraction = cosine_fraction(table, key_frequencies, over=over)
        found[f"cos_sim_cos3d_vs_{name}"] = fraction**0.5
    return found


def _shares(table: Tensor) -> Measures:
    names = {"degree_2": "deg2", "quadratic": "quad", "sum": "xpy"}
    return {
        f"logits_{name}_fve_by_freq": _array(explained_variance(table, terms=terms, pooled=True))
        for terms, name in names.items()
    }


def _masks(train_mask: Array, p: int, device: torch.device) -> dict[str, Tensor]:
    """Of all, training and test inputs."""
    train = require_mask("train_mask", train_mask, p, device)
    return {"all": torch.ones_like(train), "train": train, "test": ~train}


def _array(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.cpu().numpy()
