"""Manifold capacity of the layers, classes as manifolds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from grokscope.callbacks.families.manifolds import ManifoldProgress, Manifolds
from grokscope.measures.capacity import MeanFieldCapacity, WarmStart, mean_field_capacity
from grokscope.measures.center_correlations import CommonSubspace
from grokscope.validation import require_bool, require_int


class CapacityProgress(ManifoldProgress):
    """Mean-field capacity, radius and dimension of each layer's class manifolds.

    Columns of one number a layer, (L,): ``capacity``, ``radius``, ``dimension``,
    ``center_correlation``, ``n_components`` (dimensions removed) and ``standard_error``
    (:func:`~grokscope.measures.capacity.mean_field_capacity`); names of the layers are an
    attribute. A layer with a class at zero is NaN. All rows have the same samples and probes, and
    start from the row before.

    Args:
        schedule: When.
        n_probes: Of each manifold.
        remove_correlations: Whether what centers have in common is projected out.
        n_components: Dimensions to project out; None chooses at each row.
        seed: Of probes and starts.
        **samples: Arguments of :class:`~grokscope.callbacks.families.manifolds.ManifoldProgress`.

    Source:
        Chung, Lee, Sompolinsky 2018, PRX 8:031003; Cohen et al. 2020, Nat. Commun. 11:746.
    """

    names = (
        "capacity",
        "radius",
        "dimension",
        "center_correlation",
        "n_components",
        "standard_error",
    )

    def __init__(
        self,
        schedule: Any = "log 5",
        n_probes: int = 200,
        remove_correlations: bool = True,
        n_components: int | None = None,
        seed: int = 0,
        **samples: Any,
    ) -> None:
        super().__init__(schedule, **samples)
        if n_components is not None:
            require_int("n_components", n_components)
        self._settings: dict[str, Any] = {
            "n_probes": require_int("n_probes", n_probes),
            "remove_correlations": require_bool("remove_correlations", remove_correlations),
            "n_components": n_components,
            "seed": require_int("seed", seed, minimum=0),
        }
        self._warm: dict[str, WarmStart] = {}

    def of_manifolds(self, layer: str, manifolds: Manifolds) -> MeanFieldCapacity:
        """All columns; the next row begins where this one ends, unless it cannot be measured."""
        warm = self._warm.pop(layer, WarmStart())
        found = mean_field_capacity(manifolds, warm=warm, **self._settings)
        self._warm[layer] = warm
        return found

    def state(self) -> dict[str, Any]:
        """The common subspaces of the row before, from which the next search begins."""
        known = {name: warm.subspace for name, warm in self._warm.items()}
        return {name: _plain(subspace) for name, subspace in known.items() if subspace}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._warm = {name: WarmStart(_subspace(plain)) for name, plain in state.items()}


def _plain(subspace: CommonSubspace) -> dict[str, Any]:
    return {
        "correlations": torch.from_numpy(subspace.correlations),
        "bases": [torch.from_numpy(np.ascontiguousarray(b)) for b in subspace.bases],
        "stabilities": [float(s) for s in subspace.stabilities],
        "n_components": int(subspace.n_components),
    }


def _subspace(plain: dict[str, Any]) -> CommonSubspace:
    return CommonSubspace(
        plain["correlations"].numpy(),
        tuple(basis.numpy() for basis in plain["bases"]),
        tuple(plain["stabilities"]),
        plain["n_components"],
    )
