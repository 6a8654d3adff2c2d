"""Properties of small molecules, from the QM9 files that a user supplies."""

from __future__ import annotations

import csv
import os
from itertools import islice
from pathlib import Path

import torch

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.molecules import Molecule, pack, read_molecules
from grokscope.validation import require_bool, require_choice, require_int

STRUCTURES, PROPERTIES, SKIPPED = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"
WHERE = {
    STRUCTURES: "deepchemdata.s3-us-west-1.amazonaws.com/datasets/gdb9.tar.gz (DeepChem)",
    PROPERTIES: "deepchemdata.s3-us-west-1.amazonaws.com/datasets/gdb9.tar.gz (DeepChem)",
    SKIPPED: "figshare.com/ndownloader/files/3195404, and rename it",
}
TARGETS = (
    *("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve"),
    *("u0", "u298", "h298", "g298", "cv"),
)


class QM9DataModule(TensorDataModule):
    """Molecules: ``inputs`` packed graphs (n, atoms, 12 + 4 atoms), ``targets`` (n, 1), float32.

    See :func:`~grokscope.data.molecules.pack`. Targets are the file's values, not standardised.

    Args:
        data_dir: Folder of ``gdb9.sdf`` and ``gdb9.sdf.csv`` (as DeepChem distributes QM9), and of
            ``uncharacterized.txt`` (the original authors' list).
        size: The first molecules that are used, half for training, half for the test.
        target: Column of the CSV file: ``alpha``, the isotropic polarizability, in Bohr^3.
        skip_uncharacterized: Leave out the 3,054 molecules that failed the consistency check.
        batch_size: Molecules an optimizer step sees; ``None`` is the full training set.
        seed: Seeds split and order of mini-batches.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a wrong file.
        FileNotFoundError: In ``setup``, where a file is missing.

    Source:
        Ramakrishnan et al. 2014; set-up of Liu et al. 2023 (Omnigrok), arXiv:2210.01117, and
        KindXiaoming/Omnigrok:qm9/grokking, with the features of PyTorch Geometric's ``QM9``. The
        split is that of its ``random_split`` after ``torch.manual_seed``.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        size: int = 100,
        target: str = "alpha",
        skip_uncharacterized: bool = True,
        batch_size: int | None = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if not isinstance(data_dir, (str, os.PathLike)):
            raise ValueError(f"data_dir must be the path of a folder, got {data_dir!r}.")
        self.folder = Path(data_dir).expanduser()
        self.size = require_int("size", size, minimum=2)
        self.target = require_choice("target", target, TARGETS)
        self.skip_uncharacterized = require_bool("skip_uncharacterized", skip_uncharacterized)

    def make_splits(self) -> tuple[Split, Split]:
        """Read the first molecules that count, and halve them at random."""
        skipped = _skipped(self._file(SKIPPED)) if self.skip_uncharacterized else set()
        molecules, numbers = self._molecules(skipped)
        values = _values(self._file(PROPERTIES), self.target, numbers)
        everything = Split(pack(molecules), torch.tensor(values)[:, None])
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed))
        half = self.size // 2
        return everything[order[:half]], everything[order[half : 2 * half]]

    def _molecules(self, skipped: set[int]) -> tuple[list[Molecule], list[int]]:
        """The molecules and their numbers in the file, counted from 0."""
        path = self._file(STRUCTURES)
        chosen = (
            (number, molecule)
            for number, molecule in enumerate(read_molecules(path))
            if number not in skipped
        )
        found = list(islice(chosen, self.size))
        if len(found) < self.size:
            raise ValueError(
                f"size must be at most {len(found)}, the molecules in {path}, got {self.size}."
            )
        return [molecule for _, molecule in found], [number for number, _ in found]

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"data_dir must hold the file {name}, got {self.folder}: download it from "
                f"{WHERE[name]}."
            )
        return path


def _skipped(path: Path) -> set[int]:
    """Numbers from 0 of the molecules in the authors' list, which counts from 1.

    Nine lines come before them, and one after.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    try:
        return {int(line.split()[0]) - 1 for line in lines[9:-1]}
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} must list molecules from line 10 on: {error}.") from None


def _values(path: Path, target: str, numbers: list[int]) -> list[float]:
    """One property of the molecules with these numbers, ascending."""
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if target not in (table.fieldnames or ()):
            raise ValueError(f"{path} must have a column {target}.")
        rows = list(islice(table, numbers[-1] + 1))
    try:
        return [float(rows[number][target]) for number in numbers]
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must have a number for each molecule: {error}.") from None
