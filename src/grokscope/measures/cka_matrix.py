"""CKA between every two of many representations: layers, epochs, nets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from grokscope.measures.cka import (
    centred,
    centred_features,
    rbf_kernel,
    require_enough,
    symmetric,
    without_offset,
)
from grokscope.measures.matrices import Array, matrix, refuse_above
from grokscope.validation import require_bool, require_choice, require_int

KERNELS = ("linear", "rbf", "given")
PANEL_BYTES = 2**28
"""Of centred kernels that are made before they are multiplied."""

PANEL_ROWS = 128
"""At most; fewer save more of what is below the diagonal, but make thin matrix products."""

Statistics = tuple[Tensor, Tensor]
"""Inner products (L, L) of all centred kernels, and their diagonals (L, n)."""


def cka_matrix(
    representations: Sequence[Array],
    *,
    kernel: str = "linear",
    threshold: float = 1.0,
    debiased: bool = False,
    max_bytes: int = 2**31,
) -> Tensor:
    r"""CKA of all pairs of L representations of the same n samples, each kernel made once.

    Linear kernels are made a panel of rows at a time, above the diagonal only, and all inner
    products with them are one matrix product: :math:`\tfrac{1}{2} n^2 (D + L^2)` multiply-adds
    for D features in all. Where D is small, :math:`X_i^\top X_j` are taken instead,
    :math:`\tfrac{1}{2} n D^2`.

    Args:
        representations: L matrices (n, d_i) of activations, d_i may differ; or kernels (n, n).
        kernel: ``linear``; ``rbf``: Gaussian, :func:`~grokscope.measures.cka.rbf_kernel`;
            ``given``: they are symmetric kernels already.
        threshold: Width of Gaussian kernels.
        debiased: The form without offset, for n >= 4; it may be negative.
        max_bytes: Memory beside the representations. Linear kernels need little; others
            16 (L + 2) n^2 bytes.

    Returns:
        (L, L), symmetric, float64, what :func:`~grokscope.measures.cka.linear_cka`,
        :func:`~grokscope.measures.cka.rbf_cka` or :func:`~grokscope.measures.cka.cka` gives for
        each pair. NaN in the row and column of a representation without variance.

    Raises:
        ValueError: For no representation, different numbers of samples, a bad kernel, n < 4
            where debiased, or more memory than ``max_bytes``.
    """
    require_choice("kernel", kernel, KERNELS)
    require_bool("debiased", debiased)
    require_int("max_bytes", max_bytes)
    n = _samples(representations)
    require_enough(n, debiased)
    if kernel != "linear":
        found = _of_kernels(representations, kernel, threshold, max_bytes)
    elif _features_cheaper(representations, n) and _feature_bytes(representations) <= max_bytes:
        found = _of_features(representations)
    else:
        found = _of_panels(representations, n, max_bytes)
    return _cosines(*found, debiased)


def _samples(representations: Sequence[Array]) -> int:
    """n, the same for all."""
    counts = {len(features) for features in representations}
    if len(counts) != 1:
        got = f"{sorted(counts)}" if counts else "no representation"
        raise ValueError(f"representations must hold the same number of samples, got {got}.")
    return counts.pop()


def _widths(representations: Sequence[Array]) -> list[int]:
    return [matrix("each of representations", features).shape[1] for features in representations]


def _features_cheaper(representations: Sequence[Array], n: int) -> bool:
    total, several = sum(_widths(representations)), len(representations)
    return total * total < n * (total + several * several)


def _feature_bytes(representations: Sequence[Array]) -> int:
    """All features together, and their products with the widest representation."""
    widths = _widths(representations)
    return 8 * sum(widths) * (len(representations[0]) + 2 * max(widths))


def _centred(features: Array) -> Tensor:
    return centred_features(matrix("each of representations", features))


def _of_features(representations: Sequence[Array]) -> Statistics:
    several = [_centred(features) for features in representations]
    together = torch.cat(several, dim=1)
    widths = torch.tensor([X.shape[1] for X in several], device=together.device)
    owner = torch.arange(len(several), device=together.device).repeat_interleave(widths)
    products = together.new_zeros(len(several), len(several))
    begin = 0
    for i, X in enumerate(several):
        squares = (X.t() @ together[:, begin:]).square_().sum(0)
        products[i].index_add_(0, owner[begin:], squares)
        begin += X.shape[1]
    diagonals = torch.stack([X.square().sum(1) for X in several])
    return _mirrored(products), diagonals


def _of_panels(representations: Sequence[Array], n: int, max_bytes: int) -> Statistics:
    several = len(representations)
    refuse_above(max_bytes, 32 * several * n, f"a row of {several} kernels of {n} samples")
    keep = 8 * n * sum(_widths(representations)) <= max_bytes // 2
    made = [_centred(features) for features in representations] if keep else None
    products, diagonals = _zeros(representations, several), _zeros(representations, n)
    for rows in _panels(n, several, min(PANEL_BYTES, max_bytes // 4)):
        size = rows.stop - rows.start
        panel = products.new_empty(several, size, n - rows.start)
        for into, X in zip(panel, made or map(_centred, representations), strict=True):
            torch.mm(X[rows], X[rows.start :].t(), out=into)
        diagonals[:, rows] = panel.diagonal(dim1=1, dim2=2)
        panel[:, :, size:] *= 2**0.5  # they stand for those below the diagonal too
        flat = panel.flatten(1)
        products.addmm_(flat, flat.t())
    return _mirrored(products), diagonals


def _zeros(representations: Sequence[Array], columns: int) -> Tensor:
    """(L, columns) where the first representation lies."""
    first = matrix("each of representations", representations[0])
    return first.new_zeros(len(representations), columns)


def _panels(n: int, several: int, n_bytes: int) -> Iterator[slice]:
    """Rows of the kernels, so that a panel of all kernels takes at most so much."""
    start = 0
    while start < n:
        rows = min(PANEL_ROWS, max(1, n_bytes // (8 * several * (n - start))))
        yield slice(start, min(n, start + rows))
        start += rows


def _of_kernels(
    representations: Sequence[Array], kernel: str, threshold: float, max_bytes: int
) -> Statistics:
    several, n = len(representations), len(representations[0])
    needed = 16 * (several + 2) * n * n
    refuse_above(max_bytes, needed, f"{several} kernels of {n} samples; give fewer at a time")
    kernels = [_kernel(each, kernel, threshold) for each in representations]
    flat = torch.stack([K.flatten() for K in kernels])
    return _mirrored(flat @ flat.t()), torch.stack([K.diagonal() for K in kernels])


def _kernel(given: Array, kernel: str, threshold: float) -> Tensor:
    name = "each of representations"
    return centred(symmetric(name, given) if kernel == "given" else rbf_kernel(given, threshold))


def _mirrored(products: Tensor) -> Tensor:
    """What is above the diagonal, below it too."""
    return products.triu() + products.triu(1).t()


def _cosines(products: Tensor, diagonals: Tensor, debiased: bool) -> Tensor:
    if debiased:
        traces = diagonals.sum(1)
        pairs = diagonals @ diagonals.t(), torch.outer(traces, traces)
        products = without_offset(products, *pairs, diagonals.shape[1])
    norms = products.diagonal().clamp_min(0).sqrt()
    norms = torch.where(norms > 0, norms, torch.nan)
    return products / torch.outer(norms, norms)
