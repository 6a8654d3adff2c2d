"""Molecules from SDF files (V2000) as padded graphs in one tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ELEMENTS = {"H": (0, 1), "C": (1, 6), "N": (2, 7), "O": (3, 8), "F": (4, 9)}
"""Symbol -> (column of its one-hot code, atomic number)."""

N_FEATURES = 11
N_BONDS = 4
MOST_ATOMS = 999  # what the three columns of a counts line can say


@dataclass(frozen=True)
class Molecule:
    """One molecule.

    Attributes:
        features: (atoms, 11) as PyTorch Geometric's QM9 has them: one-hot of H, C, N, O, F;
            atomic number; aromatic, sp, sp2, sp3 (all 0: it reads the file without the
            perception that would fill them); number of hydrogens bound.
        bonds: (atoms, atoms, 4) symmetric, one-hot of single, double, triple, aromatic.
    """

    features: NDArray[np.float32]
    bonds: NDArray[np.float32]


def read_molecules(path: Path) -> Iterator[Molecule]:
    """Molecules of an SDF file one after the other, reading no further than asked for.

    Raises:
        ValueError: Naming file and molecule, for a record that is not V2000 or damaged.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        number = 0
        while header := list(islice(file, 4)):
            number += 1
            if not "".join(header).strip():
                return
            try:
                yield _record(header, file)
            except (ValueError, KeyError, IndexError) as error:
                raise ValueError(f"{path}, molecule {number} cannot be read: {error}.") from None


def _record(header: list[str], file: Iterator[str]) -> Molecule:
    """One record: three lines, the counts, atoms, bonds, the rest up to ``$$$$``."""
    counts = header[3]
    if "V2000" not in counts:
        raise ValueError(f"its counts line must say V2000, got {counts.strip()!r}")
    n_atoms, n_bonds = int(counts[:3]), int(counts[3:6])
    symbols = [line.split()[3] for line in islice(file, n_atoms)]
    if unknown := set(symbols) - set(ELEMENTS):
        raise ValueError(f"elements must be {', '.join(ELEMENTS)}, got {sorted(unknown)[0]!r}")
    bonds = np.zeros((n_atoms, n_atoms, N_BONDS), dtype=np.float32)
    for line in islice(file, n_bonds):
        first, second, kind = int(line[:3]) - 1, int(line[3:6]) - 1, int(line[6:9]) - 1
        if min(first, second, kind) < 0 or kind >= N_BONDS:
            raise ValueError(f"bond {line.strip()!r} names no atom or no kind of bond")
        bonds[first, second, kind] = bonds[second, first, kind] = 1
    if len(symbols) < n_atoms:
        raise ValueError(f"it has {len(symbols)} of {n_atoms} atoms")
    for line in file:
        if line.startswith("$$$$"):
            break
    return Molecule(_features(symbols, bonds), bonds)


def _features(symbols: list[str], bonds: NDArray[np.float32]) -> NDArray[np.float32]:
    features = np.zeros((len(symbols), N_FEATURES), dtype=np.float32)
    for row, symbol in zip(features, symbols, strict=True):
        column, row[5] = ELEMENTS[symbol]
        row[column] = 1
    features[:, -1] = bonds.sum(axis=2) @ features[:, 0]
    return features


def pack(molecules: list[Molecule]) -> Tensor:
    """Graphs of different sizes as one tensor, padded with zeros.

    Returns:
        (n, atoms, 11 + 1 + 4 atoms) float32, ``atoms`` those of the largest molecule: features,
        1 for an atom that exists, and its bonds to each atom (atoms x 4, flattened).
    """
    atoms = max(len(molecule.features) for molecule in molecules)
    packed = torch.zeros(len(molecules), atoms, N_FEATURES + 1 + N_BONDS * atoms)
    for row, molecule in zip(packed, molecules, strict=True):
        size = len(molecule.features)
        row[:size, :N_FEATURES] = torch.from_numpy(molecule.features)
        row[:size, N_FEATURES] = 1
        bonds = row[:, N_FEATURES + 1 :].view(atoms, atoms, N_BONDS)
        bonds[:size, :size] = torch.from_numpy(molecule.bonds)
    return packed
