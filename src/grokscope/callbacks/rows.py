"""What the GOP callback stores: its tables, and the rows made from spectra."""

from __future__ import annotations

from collections.abc import Mapping
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


def global_table(kind: str, width: int) -> Table:
    """``gop/<kind>`` in ``metrics.h5``: every metric of the whole matrix."""
    names = (*METRICS, "grad_norm", "subspace_overlap") if kind == "batch" else METRICS
    columns = CLOCK | {name: Column() for name in names}
    return Table(f"gop/{kind}", columns | {"eigenvalues_top_k": Column((width,))})


def layer_table(kind: str, layers: tuple[str, ...], width: int) -> Table:
    """``<kind>`` in ``gop_layers.h5``: every metric of each layer, (rows, layers)."""
    names = (*METRICS, "grad_norm", "grad_share") if kind == "batch" else METRICS
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


def root_row(
    losses: Mapping[str, float],
    extra: tuple[str, ...],
    batch: Mapping[str, Any] | None,
    width: int,
) -> dict[str, Any]:
    """A row of :func:`root_table` without its clock; NaN for what was not measured."""
    row: dict[str, Any] = {n: losses.get(n, np.nan) for n in (*LOSSES, *extra)}
    if width:
        row |= {f"gop_{name}": batch[name] if batch else np.nan for name in LEGACY}
        row["eigenvalues_top_k"] = batch["eigenvalues_top_k"] if batch else np.full(width, np.nan)
    return row


def padded(values: Array, width: int) -> Array:
    """The first ``width`` along the last axis, NaN where there are fewer."""
    kept = values[..., :width]
    out = np.full((*values.shape[:-1], width), np.nan)
    out[..., : kept.shape[-1]] = kept
    return out
