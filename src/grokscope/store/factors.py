"""Factors of gradient outer products, cut from the stored gradients of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.store.tables import TableFile

MOST = 2**48  # parameters, far more than any file holds
KINDS = ("batch", "weight")  # what the gradients determine


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
        found = {name: file.attribute("batch", name) for name in ("parameters", "matrices")}
        width = file.shape("batch", "gradient")[-1]
        try:
            factors = cls.described(found)
        except ValueError as error:
            raise ValueError(f"{file.path} cannot be read: {error}") from None
        if any(slot["offset"] + _size(slot) > width for slot in factors.slots):
            raise ValueError(f"{file.path} cannot be read: parameters beyond its gradients.")
        return factors

    @classmethod
    def described(cls, attributes: Mapping[str, Any]) -> Factors:
        """From the attributes of the table of the gradients.

        Raises:
            ValueError: If they do not describe the parameters.
        """
        slots, matrices = attributes.get("parameters"), attributes.get("matrices")
        if not isinstance(slots, list) or not isinstance(matrices, dict):
            raise ValueError("no description of the parameters.")
        known = all(map(_is_slot, slots)) and all(
            _is_number(i, len(slots) - 1) and slots[i]["shape"] and 0 not in slots[i]["shape"]
            for i in matrices.values()
        )
        if not known:
            raise ValueError("its description of the parameters is damaged.")
        return cls(slots, matrices)

    def sides(self, kind: str) -> dict[str, int]:
        """Layer -> side of its matrix."""
        if kind == "weight":
            return {name: self.slots[i]["shape"][0] for name, i in self.matrices.items()}
        found = dict.fromkeys((slot["layer"] for slot in self.slots), 0)
        for slot in self.slots:
            found[slot["layer"]] += _size(slot)
        return found

    def factor(self, kind: str, gradients: NDArray, layer: str | None) -> NDArray[np.float64]:
        """The factor whose Gram matrix is the GOP of one of ``KINDS``."""
        return (self.batch if kind == "batch" else self.weight)(gradients, layer)

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


def stored_gradients(file: TableFile, row: int) -> NDArray:
    """(b, m) of a row of ``gop_full.h5``: of those mini-batches that there were.

    Raises:
        ValueError: If the file does not hold that.
    """
    used = file.read_row("batch", "n_batches", row)
    gradients = file.read_row("batch", "gradient", row)
    if np.ndim(used) or used != np.floor(used) or gradients.ndim != 2 or not gradients.size:
        raise ValueError(f"{file.path} cannot be read: no gradients (b, m) in row {row}.")
    return gradients[: max(1, int(used))]


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
    if not isinstance(slot, dict) or not isinstance(slot.get("layer"), str):
        return False
    shape = slot.get("shape")
    if not isinstance(shape, (list, tuple)) or not all(map(_is_number, shape)):
        return False
    return _is_number(slot.get("offset")) and math.prod(shape) < MOST


def _is_number(value: Any, most: int = MOST) -> bool:
    return isinstance(value, int) and 0 <= value <= most


def _size(slot: dict[str, Any]) -> int:
    return int(np.prod(slot["shape"], dtype=np.int64))


def _columns(gradients: NDArray, slot: dict[str, Any]) -> NDArray:
    return gradients[:, slot["offset"] : slot["offset"] + _size(slot)]
