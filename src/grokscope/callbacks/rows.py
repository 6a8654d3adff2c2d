"""What the GOP callback stores: its tables, and the rows made from spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.gradients.layout import GradientLayout
from grokscope.measures.spectra import METRICS
from grokscope.store.layout import Column, Table

LOSSES = ("train_loss", "test_loss", "train_acc", "test_acc")
LEGACY = (
    "trace",
    "frobenius_norm",
    "spectral_norm",
    "nuclear_norm",
    "rank",
    "condition_number",
    "determinant",
    "eigenvalue_max",
    "eigenvalue_min",
    "eigenvalue_mean",
    "eigenvalue_std",
    "top_k_cumulative_variance",
)
STATISTICS = ("grad_norm", "gradient_noise_scale", "gradient_coherence")
ANSATZ = ("feature_ansatz", "feature_ansatz_root")
WHOLE_ONLY = {
    "batch": ("grad_norm", "subspace_overlap"),
    "trajectory": ("n_gradients", "subspace_overlap"),
    "sample": (*STATISTICS, "subspace_overlap", "residual"),
}
LAYERS_ONLY = {
    "batch": ("grad_norm", "grad_share"),
    "sample": (*STATISTICS, "residual"),
    "input": ANSATZ,
}
INTEGER = Column(dtype="<i8")
CLOCK = {"epoch": INTEGER, "step": INTEGER}
Array = NDArray[np.float64]


def root_table(extra: tuple[str, ...], width: int) -> Table:
    """Top level of ``metrics.h5``: the older framework's names, then the module's own scalars.

    Args:
        extra: Names beyond losses and accuracies, such as ``theory_train_loss``.
        width: Eigenvalues stored a row; 0 without the ``batch`` kind.
    """
    columns = {"epoch": INTEGER, "global_step": INTEGER}
    columns |= {name: Column() for name in (*LOSSES, *extra)}
    if width:
        columns |= {f"gop_{name}": Column() for name in LEGACY}
        columns["eigenvalues_top_k"] = Column((width,))
    return Table("", columns)


def global_table(
    kind: str, width: int, attributes: Mapping[str, Any] = MappingProxyType({})
) -> Table:
    """``gop/<kind>`` in ``metrics.h5``: every metric of the whole matrix, and the kind's own."""
    names = (*METRICS, *WHOLE_ONLY.get(kind, ()))
    columns = CLOCK | {name: Column() for name in names}
    columns["eigenvalues_top_k"] = Column((width,))
    return Table(f"gop/{kind}", columns, attributes)


def layer_table(kind: str, layers: tuple[str, ...], width: int) -> Table:
    """``<kind>`` in ``gop_layers.h5``: the same of each layer, (rows, layers)."""
    names = (*METRICS, *LAYERS_ONLY.get(kind, ()))
    columns = CLOCK | {name: Column((len(layers),)) for name in names}
    columns["eigenvalues_top_k"] = Column((len(layers), width))
    return Table(kind, columns, {"layers": list(layers)})


def factor_table(layout: GradientLayout, rows: int, dtype: str) -> Table:
    """``batch`` in ``gop_full.h5``: the gradients themselves, (rows, batches, m)."""
    names = [slot.name for slot in layout.slots]
    attributes = {
        "parameters": layout.describe(),
        "matrices": {name: names.index(slot.name) for name, slot in layout.matrices.items()},
        "layers": list(layout.layers),
    }
    columns = CLOCK | {
        "n_batches": INTEGER,
        "eigenvalues": Column((rows,)),
        "gradient": Column((rows, layout.size), dtype),
    }
    return Table("batch", columns, attributes)


def root_rows(
    losses: Sequence[Mapping[str, float]],
    extra: tuple[str, ...],
    measured: Sequence[int],
    batch: Mapping[str, Array] | None,
    width: int,
) -> dict[str, Array]:
    """Rows of :func:`root_table` without their clocks; NaN for what was not measured.

    Args:
        losses: Of each row; empty where they were not due.
        extra: As for the table.
        measured: Numbers of the rows that ``batch`` is about.
        batch: Metrics of the whole.
        width: As for the table.
    """
    names = (*LOSSES, *extra)
    rows = {name: np.array([row.get(name, np.nan) for row in losses]) for name in names}
    if width:
        wanted = {f"gop_{name}": name for name in LEGACY}
        wanted["eigenvalues_top_k"] = "eigenvalues_top_k"
        for column, name in wanted.items():
            shape = (width,) if column == name else ()
            rows[column] = np.full((len(losses), *shape), np.nan)
            if batch is not None:
                rows[column][measured] = batch[name]
    return rows


def padded(values: Array, width: int) -> Array:
    """The first ``width`` along the last axis, NaN where there are fewer."""
    kept = values[..., :width]
    out = np.full((*values.shape[:-1], width), np.nan)
    out[..., : kept.shape[-1]] = kept
    return out
