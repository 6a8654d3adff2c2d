"""What a net still knows when hidden units are taken out one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from grokscope.validation import require_int


def pruning_order(scores: Tensor, *, lowest_first: bool = True) -> Tensor:
    """Hidden units (h,) in the order in which they are pruned; ties by number.

    Units whose score (h,) is NaN, those without weights, come first.

    Source:
        Doshi et al. 2024, arXiv:2310.13061, section 3: by inverse participation ratio
        (:func:`grokscope.measures.fourier.neuron_periodicity`), lowest or highest first.
    """
    known = scores.nan_to_num(nan=-torch.inf if lowest_first else torch.inf)
    return known.argsort(descending=not lowest_first, stable=True)


def pruned_accuracies(
    hidden: Tensor,
    last: Tensor,
    targets: Tensor,
    order: Tensor,
    counts: Sequence[int],
) -> Tensor:
    """Accuracy after the first ``count`` units of ``order`` are pruned, for each count.

    Each unit's part of the logits is subtracted once: n h c multiply-adds in all, however many
    counts. In float64, since the parts that are left are small differences.

    Args:
        hidden: Inputs of the last layer (n, h), after activation and norms.
        last: Weights of the last layer (c, h), which has no bias.
        targets: Classes (n,).
        order: From :func:`pruning_order`.
        counts: Ascending, 0 to h.

    Returns:
        (counts,) float64.

    Raises:
        ValueError: If counts do not ascend within 0 to h.

    Source:
        Doshi et al. 2024, arXiv:2310.13061, Figs. 3 and 6.
    """
    ascending = [0, *counts, len(order)]
    if any(a > b for a, b in pairwise(ascending)):
        raise ValueError(f"counts must ascend from 0 to {len(order)}, got {list(counts)}.")
    hidden, last = hidden.double()[:, order], last.double()[:, order]
    logits, accuracies, done = hidden @ last.T, [], 0
    for count in counts:
        require_int("counts", int(count), minimum=0)
        logits = logits - hidden[:, done:count] @ last[:, done:count].T
        done = count
        accuracies.append((logits.argmax(1) == targets).double().mean())
    return torch.stack(accuracies) if accuracies else logits.new_zeros(0)
