"""Factors of gradient outer products, cut from the stored gradients of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.store.tables import TableFile


@dataclass(frozen=True)
class Factors:
    """Where each parameter lies in the flat gradient, as the file says.

    Attributes:
        slots: One entry a parameter: ``name``, ``layer``, ``offset``, ``shape``.
        matrices: Name of a weight matrix -> number of its slot.
    """

    slots: list[dict[str, Any]]
    matrices: dict[str, int]

    @classmethod
    def of(cls, file: TableFile) -> Factors:
        """Read from ``gop_full.h5``.

        Raises:
            ValueError: If the file does not describe its parameters.
        """
        slots = file.attribute("batch", "parameters")
        matrices = file.attribute("batch", "matrices")
        whole = isinstance(slots, list) and isinstance(matrices, dict)
        if not whole or not all(_is_slot(slot) for slot in slots):
            raise ValueError(f"{file.path} cannot be read: no description of the parameters.")
        return cls(slots, matrices)

    def batch(self, gradients: NDArray, layer: str | None) -> NDArray[np.float64]:
        """(b, m) of the ``batch`` kind, scaled so that its Gram matrix is the GOP."""
        if layer is not None:
            require_layer([slot["layer"] for slot in self.slots], layer)
            parts = [_columns(gradients, s) for s in self.slots if s["layer"] == layer]
            gradients = np.concatenate(parts, axis=1)
        return gradients / np.sqrt(np.float64(len(gradients)))

    def weight(self, gradients: NDArray, layer: str | None) -> NDArray[np.float64]:
        """(i, o) of the ``weight`` kind: Γᵀ, of the mean over the mini-batches of the pass."""
        require_layer(list(self.matrices), layer)
        slot = self.slots[self.matrices[str(layer)]]
        mean = _columns(gradients, slot).mean(axis=0, dtype=np.float64)
        return mean.reshape(slot["shape"][0], -1).T


def require_layer(layers: list[str], layer: str | None) -> int:
    """Index of a layer's name.

    Raises:
        KeyError: Listing the names.
    """
    if layer not in layers:
        names = ", ".join(dict.fromkeys(layers))
        raise KeyError(f"layer must be one of {names}, got {layer!r}.")
    return layers.index(layer)


def _is_slot(slot: Any) -> bool:
    return isinstance(slot, dict) and {"layer", "offset", "shape"} <= slot.keys()


def _columns(gradients: NDArray, slot: dict[str, Any]) -> NDArray:
    return gradients[:, slot["offset"] : slot["offset"] + int(np.prod(slot["shape"]))]
