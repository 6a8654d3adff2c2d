"""The kinds of gradient outer product against the dense matrices that they stand for."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import torch
from small import assert_equal, data, module, state, trainer
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks.batch_kind import BatchKind
from grokscope.callbacks.kinds import Kind, TrajectoryKind, WeightKind
from grokscope.gradients.layout import GradientLayout, gradient_layout

TRAJECTORY = ("batch", "trajectory")
EVERY = dict.fromkeys(("metrics", "batch", "trajectory", "factor"), 1)


M = 225 + 128  # parameters of the layout: sums of more than eight numbers, in numpy's blocks


def layout() -> GradientLayout:
    net = nn.Sequential(nn.Linear(14, 15), nn.ReLU(), nn.Linear(15, 8))
    return gradient_layout(net.named_parameters())


def make(name: str, rank_threshold: float = 1e-6) -> Kind:
    settings = {"top_k": 100, "rank_threshold": rank_threshold}
    kinds = {
        "batch": lambda: BatchKind(layout(), 3, **settings),
        "weight": lambda: WeightKind(layout(), **settings),
        "trajectory": lambda: TrajectoryKind(layout(), 5, **settings),
    }
    return kinds[name]()


@pytest.mark.parametrize("name", ["batch", "weight", "trajectory"])
@pytest.mark.parametrize("batches", [1, 3])
def test_a_row_does_not_depend_on_the_rows_measured_with_it(
    name: str, batches: int, generator
) -> None:
    """When rows are written together is a matter of time; their bits are not."""
    passes = list(torch.randn(16, batches, M, generator=generator))
    together, alone = make(name), make(name)
    found = together.measure(passes)
    for i, gradients in enumerate(passes):
        single = alone.measure([gradients])
        for a, b in ((found.whole, single.whole), (found.layers, single.layers)):
            assert set(a) == set(b)
            for metric in a:
                np.testing.assert_array_equal(a[metric][i], b[metric][0], err_msg=metric)


@pytest.mark.parametrize("name", ["batch", "weight", "trajectory"])
@pytest.mark.parametrize("done", [0, 3, 9])
def test_a_kind_goes_on_from_its_state(name: str, done: int, generator) -> None:
    passes = list(torch.randn(12, 1, M, generator=generator))
    first, second = make(name), make(name)
    if done:
        first.measure(passes[:done])
    second.restore(first.state())
    a, b = first.measure(passes[done:]), second.measure(passes[done:])
    for metric in a.whole:
        np.testing.assert_array_equal(a.whole[metric], b.whole[metric], err_msg=metric)


def test_rank_counts_no_rounding_while_the_window_fills(generator) -> None:
    found = make("trajectory", rank_threshold=0.0).measure(
        list(torch.randn(7, 1, M, generator=generator))
    )
    assert found.whole["rank"].tolist() == [1, 2, 3, 4, 5, 5, 5]
    assert found.whole["n_gradients"].tolist() == [1, 2, 3, 4, 5, 5, 5]
    assert np.isinf(found.whole["spectral_gap"][0])
    assert np.isfinite(found.whole["eigenvalues_top_k"]).sum(1).tolist() == [1, 2, 3, 4, 5, 5, 5]


def test_a_layer_smaller_than_the_window_has_its_own_rank(generator) -> None:
    small = gradient_layout(nn.ParameterDict({"a": torch.ones(2), "b": torch.ones(40)}).items())
    kind = TrajectoryKind(small, 12, top_k=100, rank_threshold=0.0)
    found = kind.measure(list(torch.randn(30, 1, 42, generator=generator))).layers
    assert found["rank"][15:, 0].tolist() == [2] * 15
    assert found["eigenvalue_min"][15:, 0].min() > 0
    assert np.isfinite(found["eigenvalues_top_k"][15:]).sum(-1).tolist() == [[2, 12]] * 15


def fit(folder, epochs=9, batch_size=None, window=4, ckpt_path=None, **settings):
    torch.manual_seed(1)
    observer = GOPCallback(
        TRAJECTORY, EVERY, output_dir=folder, trajectory_window=window, **settings
    )
    model, done = module(), trainer(epochs, [observer])
    done.fit(model, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model, done


def gradients(folder) -> np.ndarray:
    """(epochs, batches, m) as stored, in float64."""
    with h5py.File(folder / "gop_full.h5") as file:
        return file["batch/gradient"][:].astype(np.float64)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("window", [1, 4, 7])
def test_the_rows_have_the_spectra_of_the_dense_matrices(
    batch_size, window: int, tmp_path
) -> None:
    fit(tmp_path, batch_size=batch_size, window=window)
    run, rows = Run.open(tmp_path), gradients(tmp_path)
    first_layer = 16 * 14
    for epoch in range(len(rows)):
        last = rows[: epoch + 1].reshape(-1, rows.shape[-1])[-window:]
        for layer, columns in ((None, slice(None)), (run.layers[0], slice(first_layer))):
            dense = last[:, columns].T @ last[:, columns] / len(last)
            expected = np.linalg.eigvalsh(dense)[::-1][: len(last)]
            found = run.spectrum("trajectory", epoch, layer)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * expected[0])
        assert run.metrics["gop/trajectory/n_gradients"][epoch] == len(last)
        trace = np.square(last).sum() / len(last)
        assert run.metrics["gop/trajectory/trace"][epoch] == pytest.approx(trace, rel=1e-10)
    layers = run.metrics["gop/trajectory/layers/trace"]
    np.testing.assert_allclose(layers.sum(1), run.metrics["gop/trajectory/trace"], rtol=1e-10)
    assert run.layer_names("trajectory") == run.layers
    assert run.epochs("trajectory").tolist() == list(range(len(rows)))


def test_the_overlap_is_that_of_the_dense_eigenvectors(tmp_path) -> None:
    fit(tmp_path, window=3, top_k=2)
    rows, found = gradients(tmp_path)[:, 0], Run.open(tmp_path).metrics
    overlap = found["gop/trajectory/subspace_overlap"]
    assert math.isnan(overlap[0])
    vectors = []
    for epoch in range(len(rows)):
        last = rows[max(0, epoch - 2) : epoch + 1]
        values, dense = np.linalg.eigh(last.T @ last)
        vectors.append(dense[:, ::-1][:, : min(2, int((values > 1e-6 * values[-1]).sum()))])
    for epoch in range(1, len(rows)):
        k = min(vectors[epoch].shape[1], vectors[epoch - 1].shape[1])
        expected = np.square(vectors[epoch - 1][:, :k].T @ vectors[epoch][:, :k]).sum() / k
        assert overlap[epoch] == pytest.approx(expected, rel=1e-6)


def test_a_window_of_one_is_the_batch_kind(tmp_path) -> None:
    fit(tmp_path, window=1)
    metrics = Run.open(tmp_path).metrics
    for name in ("trace", "rank", "spectral_norm", "eigenvalue_std", "spectral_gap"):
        np.testing.assert_allclose(
            metrics[f"gop/trajectory/{name}"], metrics[f"gop/batch/{name}"], rtol=1e-12
        )


def test_it_is_the_mean_of_the_batch_matrices_of_the_passes_in_the_window(tmp_path) -> None:
    fit(tmp_path, batch_size=8, window=9)  # three passes of three mini-batches
    run = Run.open(tmp_path)
    mean = sum(run.gop(epoch)[:, :] for epoch in (5, 6, 7)) / 3
    expected = np.linalg.eigvalsh(mean)[::-1][:9]
    found = run.spectrum("trajectory", 7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * expected[0])


@pytest.mark.parametrize("batch_size", [None, 8])
def test_training_is_bit_equal_with_the_trajectory(batch_size, tmp_path) -> None:
    observed = fit(tmp_path, batch_size=batch_size)
    torch.manual_seed(1)
    model, done = module(), trainer(9)
    done.fit(model, datamodule=data(batch_size))
    assert_equal(state(model, done), state(*observed))


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("stop", [2, 6])
def test_the_window_survives_a_stop(batch_size, stop: int, tmp_path) -> None:
    fit(tmp_path / "whole", batch_size=batch_size)
    _, first = fit(tmp_path / "part", stop, batch_size=batch_size)
    first.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    fit(tmp_path / "part", batch_size=batch_size, ckpt_path=tmp_path / "last.ckpt")
    whole, part = (Run.open(tmp_path / name).metrics for name in ("whole", "part"))
    for name in [name for name in whole if name.startswith("gop/trajectory/")]:
        np.testing.assert_array_equal(whole[name], part[name], err_msg=name)


def test_gradients_that_are_not_finite_give_nan_and_no_later_harm(generator) -> None:
    passes = list(torch.randn(6, 1, M, generator=generator))
    spoilt = torch.full((1, M), math.nan)
    kind, clean = make("trajectory"), make("trajectory")
    found = kind.measure([spoilt, *passes[:3], spoilt, *passes[3:]]).whole
    expected = clean.measure(passes).whole
    kept = [1, 2, 3, 5, 6, 7]
    for name in expected:
        np.testing.assert_array_equal(found[name][kept], expected[name], err_msg=name)
    assert np.isnan(found["trace"][[0, 4]]).all()
    assert np.isnan(found["subspace_overlap"][[0, 4]]).all()


@pytest.mark.refusal
def test_a_window_that_takes_too_much_memory_is_refused_with_both_sizes(tmp_path) -> None:
    needed = 8 * 20 * sum(p.numel() for p in module().parameters())
    message = rf"max_bytes must be >= {needed:,} for trajectory_window=20 .* got {needed - 1:,}"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", window=20, max_bytes=needed - 1)
    assert not (tmp_path / "run").exists()
