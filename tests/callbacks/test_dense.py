"""Dense matrices of a real training, against gradients that autograd gives step by step."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import small
import torch
from lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from grokscope import GOPCallback, Run

EPOCHS, BATCHES = 4, 3
LAYERS = {"net.0": slice(0, 24), "net.2": slice(24, 39)}
MATRICES = {"net.0": (slice(0, 20), (4, 5)), "net.2": (slice(24, 36), (3, 4))}


class Remembering(LightningModule):
    """Keeps the gradient of each of its steps, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        self.gradients: list[np.ndarray] = []

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        parts = torch.autograd.grad(loss, list(self.net.parameters()), retain_graph=True)
        self.gradients.append(torch.cat([part.flatten() for part in parts]).numpy())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder, and (epochs, batches, m) of independent gradients."""
    folder = tmp_path_factory.mktemp("dense")
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    module = Remembering()
    schedule = {"weight": "at 0", "factor": "at 0 1 3"}
    callback = GOPCallback(schedule=schedule, output_dir=folder, top_k=2, dense=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=24 // BATCHES)
    small.trainer(EPOCHS, [callback], folder).fit(module, loader)
    return folder, np.stack(module.gradients).reshape(EPOCHS, BATCHES, -1)


def read(folder, file, path):
    with h5py.File(folder / file) as opened:
        return opened[path][:]


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_the_matrix_is_the_mean_outer_product_of_the_steps_of_that_pass(trained, epoch):
    folder, gradients = trained
    expected = np.einsum("bi,bj->ij", gradients[epoch], gradients[epoch]) / BATCHES
    matrix = read(folder, "gop_full.h5", f"epoch_{epoch}/gop")
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix, expected, rtol=1e-11, atol=1e-16)
    np.testing.assert_allclose(matrix, Run.open(folder).gop(epoch).dense(), rtol=1e-13, atol=1e-18)


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_layers_are_its_diagonal_blocks_and_weights_their_own_products(trained, epoch):
    folder, gradients = trained
    matrix = read(folder, "gop_full.h5", f"epoch_{epoch}/gop")
    run = Run.open(folder)
    for layer, at in LAYERS.items():
        block = read(folder, "gop_layers.h5", f"epoch_{epoch}/{layer}/gop")
        np.testing.assert_allclose(block, matrix[at, at], rtol=1e-12, atol=1e-18)
    for layer, (at, shape) in MATRICES.items():
        mean = gradients[epoch].mean(0)[at].reshape(shape)
        left = read(folder, "gop_layers.h5", f"epoch_{epoch}/{layer}/weight/gop")
        np.testing.assert_allclose(left, mean @ mean.T, rtol=1e-10, atol=1e-16)
        again = run.gop(epoch, kind="weight", layer=layer).dense()
        np.testing.assert_allclose(left, again, rtol=1e-13, atol=1e-18)


def test_eigenvectors_belong_to_the_recorded_eigenvalues(trained):
    folder, _ = trained
    matrix = read(folder, "gop_full.h5", "epoch_3/gop")
    vectors = read(folder, "gop_full.h5", "epoch_3/eigenvectors_top_k")
    values = Run.open(folder).spectrum("batch", 3)
    assert vectors.shape == (39, 2)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-12 * values[0])


def test_a_reader_of_the_older_layout_finds_matrix_spectrum_and_attributes(trained):
    folder, _ = trained
    with h5py.File(folder / "gop_full.h5") as file:
        assert sorted(name for name in file if name[:6] == "epoch_") == [
            "epoch_0",
            "epoch_1",
            "epoch_3",
        ]
        group = file["epoch_3"]
        matrix, values = group["gop"][:], group["eigenvalues"][:]
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix)[::-1][:3], values, rtol=1e-9)
        assert group.attrs["n_batches"] == BATCHES
    with h5py.File(folder / "gop_layers.h5") as file:
        group = file["epoch_3"]["net.0"]
        assert np.trace(group["gop"][:]) == pytest.approx(group.attrs["trace"], rel=1e-12)
        assert len(group["eigenvalues_top_k"]) == 2


def test_a_run_that_goes_on_has_none_yet(tmp_path):
    seen = []

    class Look(GOPCallback):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            with h5py.File(tmp_path / "gop_full.h5", locking=False) as file:
                seen.append(set(file))

    small.trainer(2, [Look(output_dir=tmp_path, dense=True)], tmp_path).fit(
        small.module(), datamodule=small.data()
    )
    assert seen == [{"batch", "check", "index", "synced"}]
    with h5py.File(tmp_path / "gop_full.h5") as file:
        assert "gop" in file["epoch_0"]


@pytest.mark.refusal
@pytest.mark.parametrize("value", [1, "true", None])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ValueError, match="dense must be true or false, got"):
        GOPCallback(dense=value)


@pytest.mark.refusal
def test_dense_matrices_without_a_factor_are_refused():
    with pytest.raises(ValueError, match="dense must be false without the kind batch, got True"):
        GOPCallback(("weight",), dense=True)
