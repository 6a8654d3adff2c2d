"""Published outcomes of the families around quadratic nets and linear estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from entry import train

from grokscope import Run
from grokscope.analysis.corruption_phases import corruption_phase
from grokscope.data import CorruptedModularDataModule
from grokscope.measures.fourier import neuron_periodicity
from grokscope.measures.unit_pruning import pruned_accuracies, pruning_order

CORRUPTED = ["experiment=doshi_corruption", "measures.kinds=[]", "schedule.metrics=log 20"]


def phase(run: Run) -> str:
    metrics = run.metrics
    before = bool((metrics["test_acc"] >= 0.9).any())
    accuracies = float(metrics["train_acc"][-1]), float(metrics["test_acc"][-1])
    return corruption_phase(*accuracies, run.config["data"]["corruption"], had_generalised=before)


ROWS = [  # of the notebook: settings, train and test loss, train and test accuracy, phase
    (
        ["model.optimizer.weight_decay=0", "trainer.max_epochs=1000"],
        [2.80e-3, 8.42e-3],
        [0.978, 0.983],
        "coexistence",
    ),
    ([], [4.59e-3, 5.49e-3], [0.786, 1.0], "partial inversion"),
    (["model.optimizer.weight_decay=15"], [8.35e-3, 8.17e-3], [0.654, 1.0], "full inversion"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "losses", "accuracies", "name"), ROWS)
def test_doshi_corruption_reproduces_the_printed_rows(
    settings, losses, accuracies, name, tmp_path
) -> None:
    run = train(tmp_path, *CORRUPTED, *settings)
    ends = {key: float(values[-1]) for key, values in run.metrics.items() if values.ndim == 1}
    assert [ends["train_loss"], ends["test_loss"]] == pytest.approx(losses, rel=0.06)
    assert [ends["train_acc"], ends["test_acc"]] == pytest.approx(accuracies, abs=0.025)
    assert phase(run) == name
    if name == "coexistence":
        assert_pruning_tells_the_two_circuits_apart(run)


def assert_pruning_tells_the_two_circuits_apart(run: Run) -> None:
    """Doshi et al. 2024, section 3: aperiodic units hold wrong labels, periodic ones the rule."""
    checkpoint = torch.load(Path(run.path) / "checkpoints" / "last.ckpt", weights_only=True)
    first, last = (checkpoint["state_dict"][f"net.layers.{i}.weight"] for i in (0, 1))
    data = CorruptedModularDataModule(split="python", seed=0)
    data.setup()
    scores = neuron_periodicity(first, last)

    def accuracies(name: str, lowest_first: bool, count: int) -> float:
        split = data.test if name == "test" else data.extra[name]
        hidden = (split.inputs @ first.T).square()
        order = pruning_order(scores, lowest_first=lowest_first)
        return float(pruned_accuracies(hidden, last, split.targets, order, [count])[0])

    assert accuracies("test", lowest_first=True, count=350) > 0.99
    assert accuracies("corrupted", lowest_first=True, count=350) < 0.05
    assert accuracies("test", lowest_first=False, count=150) < 0.05
    assert accuracies("corrupted", lowest_first=False, count=150) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [True, False])
def test_doshi_minibatches_unlearn_wrong_labels_without_weight_decay(batch_norm, tmp_path) -> None:
    """Printed: train accuracy 0.804 and 0.818, test accuracy 1."""
    settings = ["experiment=doshi_batchnorm", f"net.batch_norm={str(batch_norm).lower()}"]
    run = train(tmp_path, *settings, "measures.kinds=[]")
    assert run.metrics["train_acc"][-1] == pytest.approx(0.81, abs=0.03)
    assert run.metrics["test_acc"][-1] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("polynomial", "learnt"), [("(4*n1 + n2^2)^3", True), ("(4*n1 + n2^2)^3 + n1*n2", False)]
)
def test_only_polynomials_of_a_sum_are_learnt(polynomial, learnt, tmp_path) -> None:
    override = f"data.polynomial='{polynomial}'"
    run = train(tmp_path, "experiment=doshi_polynomial_small", override)
    assert run.metrics["train_acc"][-1] == 1
    assert (run.metrics["test_acc"][-1] > 0.99) == learnt
    assert (run.metrics["test_acc"][-1] < 0.1) == (not learnt)


@pytest.mark.slow
def test_gromov_small_groks_by_plain_gradient_descent_and_becomes_periodic(tmp_path) -> None:
    run = train(tmp_path, "experiment=gromov_small", "schedule.metrics=log 50")
    times = run.grokking()
    assert times.ratio is not None
    assert times.ratio > 1.2
    assert run.metrics["ipr/mean"][-1] > 3 * run.metrics["ipr/mean"][0]


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_levi_two_layers_follow_the_linear_theory(activation, tmp_path) -> None:
    settings = ["experiment=levi_two_layer_small", f"data.activation={activation}"]
    metrics = train(tmp_path, *settings, "trainer.max_epochs=60", "measures.kinds=[]").metrics
    for split in ("train", "test"):
        found, theory = metrics[f"{split}_loss"], metrics[f"theory_{split}_loss"]
        assert found[-1] < 0.3 * found[0]
        np.testing.assert_allclose(found / found[0], theory / theory[0], rtol=0.1)
