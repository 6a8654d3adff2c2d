from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grokscope.callbacks.rows import (
    factor_table,
    global_table,
    layer_table,
    root_rows,
    root_table,
)
from grokscope.gradients.layout import GradientLayout, ParameterSlot
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.run_writer import FULL, LAYERS, METRICS

SLOTS = (
    ParameterSlot("embed.weight", "embed", 0, (4, 3)),
    ParameterSlot("embed.bias", "embed", 12, (4,)),
    ParameterSlot("head.weight", "head", 16, (2, 4)),
)
LAYOUT = GradientLayout(SLOTS)
LAST, WIDTH = 300, 3
WEIGHT_EPOCHS = FACTOR_EPOCHS = [0, 1, 3, 10, 30, 100]


def gradients(epoch):
    """(2, 24) of the two mini-batches of a pass."""
    return np.random.default_rng(epoch).normal(size=(2, 24)) / (1 + epoch)


def accuracy(epoch, at):
    return float(np.clip(0.2 + 0.8 * (epoch - at / 2) / (at / 2), 0.2, 1.0))


class SyntheticRun:
    """Rows as the callback writes them, of a run that memorises at 20 and generalises at 200."""

    def __init__(self, folder):
        self.folder = folder
        self.tables = {
            METRICS: [
                (root_table(("theory_train_loss",), WIDTH), LAST + 1),
                (global_table("batch", WIDTH), LAST),
                (global_table("weight", WIDTH), LAST),
            ],
            LAYERS: [
                (layer_table("batch", ("embed", "head"), WIDTH), LAST),
                (layer_table("weight", ("embed", "head"), WIDTH), LAST),
            ],
            FULL: [(factor_table(LAYOUT, 3, "<f8"), 10)],
        }
        self.writer = RunWriter(folder, self.tables)
        update_info(folder, status="running", name="synthetic", seed=1)

    def write(self, epoch):
        losses = {"train_loss": 1 / (1 + epoch), "test_loss": 2.0}
        losses |= {"train_acc": accuracy(epoch, 20), "test_acc": accuracy(epoch, 200)}
        whole = self.values(METRICS, "gop/batch", epoch)
        batch = {name: np.asarray(value)[None] for name, value in whole.items()}
        root = root_rows([losses], ("theory_train_loss",), [0], batch, WIDTH)
        row = {name: values[0] for name, values in root.items()}
        self.append(METRICS, "", epoch, row | {"global_step": 2 * epoch})
        kinds = ["batch", "weight"] if epoch in WEIGHT_EPOCHS else ["batch"]
        for kind in kinds:
            for file, table in ((METRICS, f"gop/{kind}"), (LAYERS, kind)):
                self.append(file, table, epoch, self.values(file, table, epoch))
        if epoch in FACTOR_EPOCHS:
            stored = np.zeros((3, 24))
            stored[:2] = gradients(epoch)
            spectrum = [2.0, 1.0, np.nan]
            row = {"n_batches": 2, "eigenvalues": spectrum, "gradient": stored}
            self.append(FULL, "batch", epoch, row)

    def append(self, file, table, epoch, row):
        self.writer.append(file, table, row | {"epoch": epoch, "step": 2 * epoch})

    def values(self, file, path, epoch):
        """A positive number for everything; the last eigenvalue is absent."""
        table = next(table for table, _ in self.tables[file] if table.path == path)
        row = {n: np.full(c.shape, 1 / (1 + epoch)) for n, c in table.columns.items()}
        row["eigenvalues_top_k"] *= np.array([3.0, 2.0, np.nan])
        return row

    def finish(self):
        self.writer.finalise()
        update_info(self.folder, status="finished", wall_seconds=12.34, measure_seconds=0.5)


def make_run(folder: Path, last: int = LAST, finish: bool = True) -> Path:
    run = SyntheticRun(folder)
    for epoch in range(last):
        run.write(epoch)
    run.finish() if finish else run.writer.close()
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def live(tmp_path):
    return make_run(tmp_path / "live", last=40, finish=False)


@pytest.fixture
def synthetic(tmp_path):
    """A run that is being written."""
    return SyntheticRun(tmp_path / "running")


@pytest.fixture
def make():
    return make_run


@pytest.fixture
def known():
    """What the synthetic runs hold."""
    return {"gradients": gradients, "slots": SLOTS, "factor_epochs": FACTOR_EPOCHS}
