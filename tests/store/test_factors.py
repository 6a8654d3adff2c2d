"""The description of the parameters, from a file that may come from a stranger."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from grokscope.store import RunWriter, TableFile
from grokscope.store.factors import Factors, stored_gradients
from grokscope.store.layout import Column, Table

SLOTS = [
    {"name": "w.weight", "layer": "w", "offset": 0, "shape": [2, 3]},
    {"name": "w.bias", "layer": "w", "offset": 6, "shape": [2]},
]
ATTRIBUTES = {"parameters": SLOTS, "matrices": {"w": 0}}
ROW = {"epoch": 0, "n_batches": 1, "gradient": np.arange(16.0).reshape(2, 8)}


@pytest.fixture
def path(tmp_path):
    columns = {"epoch": Column(dtype="<i8"), "n_batches": Column(dtype="<i8")}
    table = Table("batch", columns | {"gradient": Column((2, 8))}, ATTRIBUTES)
    run = RunWriter(tmp_path, {"gop_full.h5": [(table, 1)]})
    run.append("gop_full.h5", "batch", ROW)
    run.close()
    return tmp_path / "gop_full.h5"


def test_a_description_that_fits_is_read(path):
    file = TableFile(path)
    gradients = stored_gradients(file, 0)
    assert Factors.of(file).factor("weight", gradients, "w").shape == (3, 2)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters", {}),
        ("parameters", [{}]),
        ("parameters", [SLOTS[0] | {"offset": -1}]),
        ("parameters", [SLOTS[0] | {"offset": 3}]),
        ("parameters", [SLOTS[0] | {"offset": 1.5}]),
        ("parameters", [SLOTS[0] | {"layer": ["w"]}]),
        ("parameters", [SLOTS[0] | {"shape": "23"}]),
        ("parameters", [SLOTS[0] | {"shape": [2**62, 2**62]}]),
        ("parameters", [SLOTS[0] | {"shape": []}]),
        ("parameters", [SLOTS[0] | {"shape": [0, 3]}]),
        ("matrices", {"w": 2}),
        ("matrices", {"w": "a"}),
        ("matrices", ["w"]),
    ],
)
def test_a_description_that_does_not_fit_names_the_file(path, name, value):
    with h5py.File(path, "r+") as file:
        file["batch"].attrs[name] = json.dumps(value)
    with pytest.raises(ValueError, match=r"gop_full\.h5 cannot be read: .*(parameters)"):
        Factors.of(TableFile(path))


@pytest.mark.refusal
def test_gradients_of_another_shape_name_the_file(path):
    with h5py.File(path, "r+") as file:
        del file["batch/gradient"]
        file["batch/gradient"] = np.zeros((1, 8))
    with pytest.raises(ValueError, match=r"gop_full\.h5 cannot be read: no gradients"):
        stored_gradients(TableFile(path), 0)
