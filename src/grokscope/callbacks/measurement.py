"""What a kind of gradient outer product gives for some passes, and what has rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """Metrics and largest eigenvalues of n passes, of the whole and by layer.

    Attributes:
        whole: Name -> (n,); ``eigenvalues_top_k`` (n, k).
        layers: Name -> (n, layers); ``eigenvalues_top_k`` (n, layers, k), NaN where there are
            fewer.
    """

    whole: dict[str, Any]
    layers: dict[str, Any]


def stack(measurements: Sequence[Measurement]) -> Measurement:
    """One measurement of all passes of several."""
    parts: list[dict[str, Any]] = [{}, {}]
    for part, kind in zip(parts, ("whole", "layers"), strict=True):
        rows = [getattr(measurement, kind) for measurement in measurements]
        part.update({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    return Measurement(*parts)


class Recorded(Protocol):
    """What has rows of its own: layers, and a number of eigenvalues stored."""

    name: str
    layers: tuple[str, ...]
    width: int

    @property
    def attributes(self) -> dict[str, Any]:
        """What has to be known to read its rows; stored beside them."""
        return {}

    def state(self) -> dict[str, Any]:
        """What it remembers of earlier passes, for a checkpoint."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""


@dataclass(frozen=True)
class Expected(Recorded):
    """Rows of a kind before it can be made: their largest size."""

    name: str
    layers: tuple[str, ...]
    width: int

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""
