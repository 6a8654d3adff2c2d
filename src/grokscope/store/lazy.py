"""A matrix known by its factor; any block of it on request."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DENSE_LIMIT = 2**28


class LazyGOP:
    """``factor.T @ factor`` without the matrix.

    Args:
        factor: (b, m).
    """

    def __init__(self, factor: NDArray) -> None:
        self.factor = np.atleast_2d(factor).astype(np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, m)."""
        return self.factor.shape[1], self.factor.shape[1]

    def __repr__(self) -> str:
        return f"LazyGOP(shape={self.shape}, rank<={len(self.factor)})"

    def __getitem__(self, key: tuple[Any, Any]) -> NDArray[np.float64]:
        """The block ``[rows, cols]``: integers, slices or index arrays (rows x columns).

        Raises:
            IndexError: Without two indices, or out of range.
            ValueError: If the block takes more than 256 MiB.
        """
        if not isinstance(key, tuple) or len(key) != 2:
            raise IndexError("a block of a GOP takes two indices, [rows, cols].")
        rows, columns = (self.factor[:, part] for part in key)
        entries = math.prod(rows.shape[1:]) * math.prod(columns.shape[1:])
        _check_bytes(entries, DENSE_LIMIT, "block")
        return np.tensordot(rows, columns, axes=(0, 0))[()]

    def __matmul__(self, vector: ArrayLike) -> NDArray[np.float64]:
        """Product with a vector (m,) or a matrix (m, c): O(b m)."""
        return self.factor.T @ (self.factor @ np.asarray(vector, dtype=np.float64))

    def dense(self, max_bytes: int = DENSE_LIMIT) -> NDArray[np.float64]:
        """The whole (m, m) matrix.

        Raises:
            ValueError: If it takes more than ``max_bytes``.
        """
        _check_bytes(self.shape[0] ** 2, max_bytes, "matrix")
        return self.factor.T @ self.factor


def _check_bytes(entries: int, max_bytes: int, what: str) -> None:
    if 8 * entries > max_bytes:
        raise ValueError(
            f"max_bytes must be >= {8 * entries:,} for this {what}, got {max_bytes:,}."
        )
