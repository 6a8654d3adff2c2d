"""The older framework's ``epoch_<n>`` groups, made from the tables of a finished file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from grokscope.store.layout import read_attribute
from grokscope.store.tables import TableFile

KINDS = ("batch", "weight", "trajectory", "sample", "input")
GROUP_BYTES = 2**13  # most bytes of one view, measured at a third of this
COMPACT = 200  # attributes kept in the object header; HDF5 gives more than 8 a heap of 1.7 kB


class GradientViews:
    """``epoch_<n>`` in ``gop_full.h5`` for each row of the ``batch`` table.

    ``gradient`` is a virtual dataset: a view of its row, which takes no space.
    """

    def room(self, source: TableFile) -> int:
        """Bytes that the groups take at most."""
        width = len(source.read("batch", "eigenvalues", first=1).ravel())
        return source.rows("batch") * (GROUP_BYTES + 8 * width)

    def add(self, file: h5py.File) -> None:
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


@dataclass(frozen=True)
class LayerViews:
    """``epoch_<n>/<layer>`` in ``gop_layers.h5``: ``eigenvalues_top_k``, metrics as attributes.

    For the ``batch`` kind; the ``weight`` kind lies in ``epoch_<n>/<layer>/weight``.

    Attributes:
        epochs: Those that get a group. The tables hold all rows.
    """

    epochs: frozenset[int]

    def room(self, source: TableFile) -> int:
        """Bytes that the groups take at most."""
        widths = [
            source.read(kind, "eigenvalues_top_k", first=1).size
            + len(source.attribute(kind, "layers")) * GROUP_BYTES // 8
            for kind in self._kinds(source.tables())
        ]
        return 8 * sum(widths) * len(self.epochs)

    def add(self, file: h5py.File) -> None:
        """Write the groups."""
        for kind in self._kinds(file):
            suffix = "" if kind == "batch" else f"/{kind}"
            for path, metrics, spectrum in self._groups(file[kind]):
                group = _compact_group(file, path + suffix)
                _write_numbers(group, metrics)
                group["eigenvalues_top_k"] = spectrum

    def _kinds(self, present: Iterable[str]) -> list[str]:
        tables = set(present)
        return [kind for kind in KINDS if kind in tables]

    def _groups(self, table: h5py.Group) -> Iterator[tuple[str, dict[str, float], np.ndarray]]:
        """Path, metrics and spectrum of each layer at each epoch."""
        layers = read_attribute(table, "layers")
        metrics = {name: table[name][:] for name in table if table[name].ndim == 2}
        spectra = table["eigenvalues_top_k"]
        for row, epoch in enumerate(table["epoch"][:].tolist()):
            if epoch not in self.epochs:
                continue
            for i, (layer, spectrum) in enumerate(zip(layers, spectra[row], strict=True)):
                values = {name: float(column[row, i]) for name, column in metrics.items()}
                yield f"epoch_{epoch}/{layer}", values, spectrum[np.isfinite(spectrum)]


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
