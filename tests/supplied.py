"""Small files in the formats of data sets that a user supplies."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

GOOD = ["good", "great", "lovely", "wonderful", "touching", "brilliant"]
BAD = ["bad", "awful", "dull", "boring", "terrible", "clumsy"]
PLAIN = ["film", "actor", "scene", "story", "plot", "music", "ending", "the", "a", "of", "and"]
COLUMNS = "mol_id A B C mu alpha homo lumo gap r2 zpve u0 u298 h298 g298 cv"
VALENCES = {"C": 4, "N": 3, "O": 2}


def write_imdb(folder: Path, n: int = 40, seed: int = 0) -> Path:
    """``IMDB Dataset.csv`` as Kaggle distributes it: quoted reviews with mark-up and commas."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "IMDB Dataset.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["review", "sentiment"])
        for i in range(n):
            chosen = rng.choice(GOOD if i % 2 else BAD, 4)
            mixed = rng.permutation([*chosen, *rng.choice(PLAIN, 12)])
            review = (
                f'{" ".join(mixed[:8])}, "{mixed[8]}".<br /><br />{" ".join(mixed[9:])} 10/10!'
            )
            table.writerow([review, "positive" if i % 2 else "negative"])
    return path


def chain(rng: np.random.Generator) -> tuple[list[str], list[tuple[int, int, int]]]:
    """A random chain of heavy atoms, saturated with hydrogens; bonds count from 1."""
    atoms = rng.choice(list(VALENCES), rng.integers(1, 5)).tolist()
    free = [VALENCES[atom] for atom in atoms]
    bonds = []
    for i in range(len(atoms) - 1):
        kind = int(rng.integers(1, 1 + min(2, free[i], free[i + 1] - (i + 2 < len(atoms)))))
        bonds.append((i + 1, i + 2, kind))
        free[i], free[i + 1] = free[i] - kind, free[i + 1] - kind
    for i, left in enumerate(list(free)):
        for _ in range(left):
            atoms.append("H")
            bonds.append((i + 1, len(atoms), 1))
    return atoms, bonds


def record(name: str, atoms: list[str], bonds: list[tuple[int, int, int]]) -> str:
    """One molecule as in ``gdb9.sdf``."""
    counts = f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"
    tail = "  0" * 12
    places = [f"{0.1 * i:10.4f}{1.0:10.4f}{-1.0:10.4f} {a:<3s}{tail}" for i, a in enumerate(atoms)]
    links = [f"{a:3d}{b:3d}{kind:3d}  0  0  0  0" for a, b, kind in bonds]
    return "\n".join(
        [name, "  -OEChem-03231823243D", "", counts, *places, *links, "M  END", "$$$$", ""]
    )


def write_qm9(folder: Path, n: int = 24, skipped: tuple[int, ...] = (3,), seed: int = 0) -> list:
    """The three files of QM9; alpha is 5 for each heavy atom and 1 for each hydrogen."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    molecules = [chain(rng) for _ in range(n)]
    records = [record(f"gdb_{i + 1}", *molecule) for i, molecule in enumerate(molecules)]
    (folder / "gdb9.sdf").write_text("".join(records))
    with (folder / "gdb9.sdf.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS.split())
        for i, (atoms, _) in enumerate(molecules):
            alpha = sum(1.0 if atom == "H" else 5.0 for atom in atoms)
            table.writerow([f"gdb_{i + 1}", 1.0, 2.0, 3.0, 0.5, alpha, *[0.0] * 10])
    head = [f"header line {i}" for i in range(9)]
    lines = [f"   {number}    CCO    CCO" for number in skipped]
    foot = f"{len(skipped)} compounds"
    (folder / "uncharacterized.txt").write_text("\n".join([*head, *lines, foot, ""]))
    return molecules


def overrides(name: str, folder: Path) -> list[str]:
    """Settings with which an experiment runs on such files, in a second or two."""
    if "imdb" in name:
        write_imdb(folder)
        sizes = ["data.size=40", "data.batch_size=15", "data.length=20", "net.d_hidden=16"]
    else:
        write_qm9(folder)
        sizes = ["data.size=20", "data.batch_size=5"]
    return [f"paths.data_dir={folder}", *sizes]


def cifar10(folder: Path, n: int = 4) -> list[str]:
    """The six binary files of CIFAR-10 with n random images each, and settings that use them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = rng.integers(256, size=(n, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    measures = [
        f"measures.progress.{name}=4"
        for name in (
            "local_complexity.n_points",
            "local_complexity.n_directions",
            "adversarial.n_samples",
        )
    ]
    return [f"data.data_dir={folder}", "data.batch_size=10", "net.width=2", *measures]
