"""The older framework's ``epoch_<n>`` groups, made from the tables of a finished file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from grokscope.store.dense import DenseMatrices
from grokscope.store.factors import KINDS as DENSE_KINDS
from grokscope.store.layout import read_attribute

KINDS = ("batch", "weight", "trajectory", "sample", "input")
GROUP_BYTES = 2**13  # most bytes of one view, measured at a third of this
COMPACT = 200  # attributes kept in the object header; HDF5 gives more than 8 a heap of 1.7 kB


@dataclass(frozen=True)
class GradientViews:
    """``epoch_<n>`` in ``gop_full.h5`` for each row of the ``batch`` table.

    ``gradient`` is a virtual dataset: a view of its row, which takes no space.

    Attributes:
        dense: Adds ``gop`` and ``eigenvectors_top_k``; None is without.
    """

    dense: DenseMatrices | None = None

    def add(self, file: h5py.File, check: Callable[[], None]) -> None:
        """Write the groups."""
        batch = file["batch"]
        gradients = batch["gradient"]
        source = h5py.VirtualSource(".", "batch/gradient", shape=gradients.shape)
        columns = (batch[name][:] for name in ("epoch", "step", "n_batches", "eigenvalues"))
        for row, (epoch, step, n_batches, values) in enumerate(zip(*columns, strict=True)):
            group = file.create_group(f"epoch_{epoch}")
            layout = h5py.VirtualLayout(shape=gradients.shape[1:], dtype=gradients.dtype)
            layout[...] = source[row]
            group.create_virtual_dataset("gradient", layout)
            group["eigenvalues"] = values
            group.attrs.update(step=int(step), n_batches=int(n_batches))
            if self.dense:
                self.dense.write_whole(group, row)
            check()


@dataclass(frozen=True)
class LayerViews:
    """``epoch_<n>/<layer>`` in ``gop_layers.h5``: ``eigenvalues_top_k``, metrics as attributes.

    For the ``batch`` kind; the ``weight`` kind lies in ``epoch_<n>/<layer>/weight``.

    Attributes:
        epochs: Those that get a group. The tables hold all rows.
        dense: Adds ``gop`` of the kinds that it knows; None is without.
    """

    epochs: frozenset[int]
    dense: DenseMatrices | None = None

    def add(self, file: h5py.File, check: Callable[[], None]) -> None:
        """Write the groups."""
        for kind in self._kinds(file):
            for epoch, layer, metrics, spectrum in self._rows(file[kind]):
                group = _compact_group(file, _path(epoch, layer, kind))
                _write_numbers(group, metrics)
                group["eigenvalues_top_k"] = spectrum
        if self.dense:
            self._add_dense(file, self.dense, check)

    def _add_dense(self, file: h5py.File, dense: DenseMatrices, check: Callable[[], None]) -> None:
        kinds = [kind for kind in DENSE_KINDS if kind in file]
        names = [(kind, name) for kind in kinds for name in read_attribute(file[kind], "layers")]
        for row, epoch in enumerate(dense.epochs):
            groups = {
                (kind, layer): _compact_group(file, _path(epoch, layer, kind))
                for kind, layer in names
            }
            dense.write_layers(groups, row)
            check()

    def _kinds(self, present: Iterable[str]) -> list[str]:
        tables = set(present)
        return [kind for kind in KINDS if kind in tables]

    def _rows(self, table: h5py.Group) -> Iterator[tuple[int, str, dict[str, float], np.ndarray]]:
        """Epoch, layer, metrics and spectrum of each layer at each epoch."""
        layers = read_attribute(table, "layers")
        metrics = {name: table[name][:] for name in table if table[name].ndim == 2}
        spectra = table["eigenvalues_top_k"]
        for row, epoch in enumerate(table["epoch"][:].tolist()):
            if epoch not in self.epochs:
                continue
            for i, (layer, spectrum) in enumerate(zip(layers, spectra[row], strict=True)):
                values = {name: float(column[row, i]) for name, column in metrics.items()}
                yield epoch, layer, values, spectrum[np.isfinite(spectrum)]


def _path(epoch: int, layer: str, kind: str) -> str:
    """Where a layer's group is."""
    return f"epoch_{epoch}/{layer}" + ("" if kind == "batch" else f"/{kind}")


def _compact_group(file: h5py.File, path: str) -> h5py.Group:
    """A group whose attributes stay in its header: half the size of HDF5's default."""
    if path in file:
        return file[path]
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_attr_phase_change(COMPACT, COMPACT // 2)
    return h5py.Group(h5py.h5g.create(file.id, path.encode(), links, properties))


def _write_numbers(group: h5py.Group, numbers: dict[str, float]) -> None:
    """Attributes as float64; twice as fast as one by one through ``group.attrs``."""
    scalar = h5py.h5s.create(h5py.h5s.SCALAR)
    for name, number in numbers.items():
        attribute = h5py.h5a.create(group.id, name.encode(), h5py.h5t.IEEE_F64LE, scalar)
        attribute.write(np.array(number))
