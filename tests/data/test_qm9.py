"""Molecules: SDF records, features, padding, the targets' column, the split, wrong files."""

from __future__ import annotations

import numpy as np
import pytest
import supplied
import torch

from grokscope.data import QM9DataModule
from grokscope.data.molecules import pack, read_molecules

METHANE = (["C", "H", "H", "H", "H"], [(1, i, 1) for i in range(2, 6)])
CYANIDE = (["C", "N", "H"], [(1, 2, 3), (1, 3, 1)])


def write(folder, *molecules):
    path = folder / "gdb9.sdf"
    path.write_text("".join(supplied.record(f"gdb_{i}", *m) for i, m in enumerate(molecules)))
    return path


def test_methane_has_the_features_of_pytorch_geometric(tmp_path):
    """The first molecule of QM9 as its documentation prints it."""
    methane, cyanide = read_molecules(write(tmp_path, METHANE, CYANIDE))
    wanted = [[0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 4]] + 4 * [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]]
    assert methane.features.tolist() == wanted
    assert cyanide.features[:, -1].tolist() == [1, 0, 0]
    assert cyanide.bonds[0, 1].tolist() == cyanide.bonds[1, 0].tolist() == [0, 0, 1, 0]
    assert cyanide.bonds.sum() == 4
    assert methane.bonds[..., 0].sum() == 8


def test_packing_pads_with_zeros_and_marks_the_atoms_that_exist(tmp_path):
    found = list(read_molecules(write(tmp_path, METHANE, CYANIDE)))
    packed = pack(found)
    assert packed.shape == (2, 5, 11 + 1 + 4 * 5)
    assert packed[..., 11].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert packed[1, 3:].abs().sum() == 0
    bonds = packed[1, :, 12:].view(5, 5, 4)
    np.testing.assert_array_equal(bonds[:3, :3], found[1].bonds)
    assert bonds.sum() == 4


def test_targets_are_alpha_and_the_listed_molecules_are_left_out(tmp_path):
    molecules = supplied.write_qm9(tmp_path, 24, skipped=(1, 4))
    data = QM9DataModule(tmp_path, 20, batch_size=4, seed=0)
    data.setup()
    kept = [m for i, m in enumerate(molecules) if i + 1 not in (1, 4)][:20]
    alpha = [sum(1.0 if atom == "H" else 5.0 for atom in atoms) for atoms, _ in kept]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    assert data.train.targets[:, 0].tolist() == [alpha[i] for i in order[:10]]
    assert data.test.targets[:, 0].tolist() == [alpha[i] for i in order[10:]]
    for split in (data.train, data.test):
        heavy = split.inputs[..., 1:5].sum(dim=(1, 2))
        hydrogens = split.inputs[..., 0].sum(dim=1)
        assert torch.equal(5 * heavy + hydrogens, split.targets[:, 0])
    everything = QM9DataModule(tmp_path, 24, skip_uncharacterized=False)
    everything.setup()
    assert len(everything.train) + len(everything.test) == 24


def test_no_more_is_read_than_asked_for(tmp_path):
    path = write(tmp_path, METHANE, CYANIDE)
    path.write_text(path.read_text() + "garbage\n" * 10)
    molecules = read_molecules(path)
    assert len(next(molecules).features) == 5
    assert len(next(molecules).features) == 3
    with pytest.raises(ValueError, match=r"gdb9\.sdf, molecule 3 cannot be read"):
        next(molecules)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("missing", "source"),
    [
        ("gdb9.sdf", "gdb9.tar.gz"),
        ("gdb9.sdf.csv", "gdb9.tar.gz"),
        ("uncharacterized.txt", "3195404"),
    ],
)
def test_a_missing_file_says_which_and_where_from(missing, source, tmp_path):
    supplied.write_qm9(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"must hold the file {missing}, .*{source}"):
        QM9DataModule(tmp_path, 10).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("V2000", "V3000", "counts line must say V2000"),
        (" C    0", " Si   0", "elements must be H, C, N, O, F, got .Si."),
        ("  1  2  1", "  1  2  7", "names no atom or no kind"),
        ("  1  2  1", "  1 99  1", "cannot be read"),
        ("  5  4  0", "  5999  0", "cannot be read"),
    ],
)
def test_damaged_records_are_refused(old, new, match, tmp_path):
    path = write(tmp_path, METHANE)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=match):
        list(read_molecules(path))


@pytest.mark.refusal
def test_wrong_tables_are_refused(tmp_path):
    supplied.write_qm9(tmp_path, 24)
    with pytest.raises(ValueError, match="size must be at most 23"):
        QM9DataModule(tmp_path, 30).setup()
    (tmp_path / "gdb9.sdf.csv").write_text("mol_id,alpha\ngdb_1,3\n")
    with pytest.raises(ValueError, match="must have a number for each molecule"):
        QM9DataModule(tmp_path, 10).setup()
    (tmp_path / "gdb9.sdf.csv").write_text("mol_id,beta\ngdb_1,3\n")
    with pytest.raises(ValueError, match="must have a column alpha"):
        QM9DataModule(tmp_path, 10).setup()
    (tmp_path / "uncharacterized.txt").write_text("x\n" * 30)
    with pytest.raises(ValueError, match="must list molecules from line 10 on"):
        QM9DataModule(tmp_path, 10).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data_dir": None}, "data_dir must be the path"),
        ({"size": 1}, "size must be an integer >= 2"),
        ({"target": "weight"}, "target must be one of A, B, C, mu, alpha"),
        ({"skip_uncharacterized": 1}, "skip_uncharacterized must be true or false"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        QM9DataModule(**({"data_dir": "data"} | arguments))
