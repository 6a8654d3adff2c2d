"""Dense gradient outer products in the files of a finished run, made from its factors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grokscope.store.factors import KINDS, Factors, stored_gradients
from grokscope.store.finalise import create_dataset, dataset_room
from grokscope.store.layout import blocks
from grokscope.store.lazy import LazyGOP
from grokscope.store.tables import TableFile


@dataclass(frozen=True)
class DenseSizes:
    """Bytes that the dense matrices of one epoch take at most, HDF5's own included.

    Attributes:
        factors: Where the parameters lie.
        shape: (b, m) of the stored gradients.
        itemsize: Bytes of a number.
        top_k: Eigenvectors kept.
    """

    factors: Factors
    shape: tuple[int, int]
    itemsize: int
    top_k: int

    def whole(self) -> int:
        """Of the whole matrix and its eigenvectors."""
        side, vectors = self.shape[1], min(self.top_k, *self.shape)
        return self._room(side, side) + self._room(side, vectors)

    def layers(self, kinds: Collection[str]) -> int:
        """Of the layers' matrices of these kinds, as far as the gradients determine them."""
        known = (self.factors.sides(kind).values() for kind in KINDS if kind in kinds)
        return sum(self._room(side, side) for sides in known for side in sides)

    def _room(self, rows: int, columns: int) -> int:
        return dataset_room(rows * columns * self.itemsize)


class DenseMatrices:
    """The dense matrices of every epoch whose factor is stored.

    Args:
        source: ``gop_full.h5``, live or final.
        top_k: Eigenvectors kept of each.
    """

    def __init__(self, source: TableFile, top_k: int) -> None:
        self._source, self._top_k = source, top_k

    @property
    def epochs(self) -> list[int]:
        """Those whose factor is stored, a row each."""
        return [int(epoch) for epoch in self._source.read("batch", "epoch")]

    def write_whole(self, group: h5py.Group, row: int) -> None:
        """``gop`` (m, m) and ``eigenvectors_top_k`` (m, k) of a row."""
        gradients = stored_gradients(self._source, row)
        factor = self._factors.batch(gradients, None)
        write_matrix(group, factor, gradients.dtype)
        vectors = eigenvectors(factor, self._top_k)
        target = create_dataset(group, "eigenvectors_top_k", vectors.shape, gradients.dtype)
        target[...] = vectors

    def write_layers(self, groups: Mapping[tuple[str, str], h5py.Group], row: int) -> None:
        """``gop`` of a row into the group of each kind and layer."""
        gradients = stored_gradients(self._source, row)
        for (kind, layer), group in groups.items():
            factor = self._factors.factor(kind, gradients, layer)
            write_matrix(group, factor, gradients.dtype)

    @cached_property
    def _factors(self) -> Factors:
        return Factors.of(self._source)


def write_matrix(group: h5py.Group, factor: NDArray, dtype: Any) -> None:
    """``factor.T @ factor`` as ``gop``: products in float64, stored as ``dtype``.

    A band of rows at a time, so that memory does not grow with the square of the side.
    """
    matrix = LazyGOP(factor)
    target = create_dataset(group, "gop", matrix.shape, dtype)
    with np.errstate(all="ignore"):  # a gradient that is not finite gives NaN, as it should
        for rows in blocks(len(target), target):
            target[rows] = matrix[rows, :].astype(dtype)


def eigenvectors(factor: NDArray, top_k: int) -> NDArray[np.float64]:
    """Unit eigenvectors (m, k) of ``factor.T @ factor`` as columns, largest eigenvalue first.

    k is at most the numerical rank, and 0 for a factor that is not finite. Their sign is
    arbitrary. From the singular vectors of the factor: orthonormal also where eigenvalues are
    small.
    """
    if not np.isfinite(factor).all():
        return np.empty((factor.shape[1], 0))
    _, values, vectors = np.linalg.svd(factor, full_matrices=False)
    noise = max(factor.shape) * np.finfo(np.float64).eps * values[0]
    return vectors[: min(top_k, int((values > noise).sum()))].T
