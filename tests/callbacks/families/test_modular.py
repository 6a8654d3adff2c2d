"""Progress measures of two-layer nets: rows of a run equal the functions at its weights."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.complexity import Complexity, ModuloAdditionComplexity
from grokscope.callbacks.families.modular import InverseParticipation
from grokscope.measures import complexity as c
from grokscope.measures.fourier import neuron_periodicity
from grokscope.nets import MLP


def fit(module, folder, **progress):
    callback = GOPCallback(kinds=(), progress=progress, output_dir=folder)
    trainer = small.trainer(3, [callback], folder)
    trainer.fit(module, datamodule=small.data())
    return Run.open(folder).metrics


def relu_module():
    module = small.module()
    module.net = MLP((14, 16, 7), "relu", bias=[True, False], seed=0)
    return module


def test_participation_of_the_initial_weights(tmp_path):
    module = small.module()
    expected = neuron_periodicity(*(layer.weight.detach() for layer in module.net.layers))
    metrics = fit(module, tmp_path, ipr=InverseParticipation("every 1"))
    np.testing.assert_allclose(metrics["ipr/units"][0], expected)
    np.testing.assert_allclose(metrics["ipr/mean"], metrics["ipr/units"].mean(1))
    assert metrics["ipr/units"].shape == (3, 16)


def test_units_without_weights_are_not_in_the_mean(tmp_path):
    module = small.module()
    with torch.no_grad():
        module.net.layers[0].weight[4] = 0
    metrics = fit(module, tmp_path, ipr=InverseParticipation("at 0", operation="multiply"))
    units = metrics["ipr/units"][0]
    assert np.flatnonzero(np.isnan(units)).tolist() == [4]
    assert metrics["ipr/mean"][0] == pytest.approx(np.nanmean(units))


def test_complexity_of_the_initial_weights(tmp_path):
    module = relu_module()
    measure = ModuloAdditionComplexity("every 1", weights="first", mask="bernoulli")
    first, last = (layer.weight.detach().clone() for layer in module.net.layers)
    bias = module.net.layers[0].bias.detach().clone()
    metrics = fit(module, tmp_path, complexity=measure)
    found = {name: metrics[f"complexity/{name}"][0] for name in measure.columns(module)}
    data = small.data()
    data.setup()
    hidden = torch.relu(data.train.inputs @ first.T + bias)
    assert found["activation_sparsity"] == pytest.approx([float(c.activation_sparsity(hidden))])
    entropies = [float(c.absolute_weight_entropy(w)) for w in (first, last)]
    assert found["weight_entropy"] == pytest.approx(entropies)
    norm = sum(w.double().square().sum() for w in (first, last, bias)) ** 0.5
    assert found["l2_norm"] == pytest.approx(float(norm))
    assert found["linf_norm"] == pytest.approx(float(c.linf_norm(first, last, bias)))
    assert found["similarity"] == pytest.approx(float(c.similarity(first, bias)))
    between = float(c.similarity(first, bias, between="units"))
    assert found["similarity_of_units"] == pytest.approx(between)

    def forward(weights):
        return torch.relu(data.test.inputs @ weights[0].T + bias) @ last.T

    cut = c.local_circuit_complexity(forward, [first], mask="bernoulli")
    assert found["local_circuit_complexity"] == pytest.approx(float(cut), rel=1e-4)


def test_complexity_of_any_depth_leaves_the_weights_alone(tmp_path):
    plain, measured = (small.module() for _ in range(2))
    for module in (plain, measured):
        module.net = MLP((14, 9, 8, 7), seed=0)
    metrics = fit(measured, tmp_path / "a", complexity=Complexity("every 1"))
    fit(plain, tmp_path / "b")
    small.assert_equal(list(plain.net.parameters()), list(measured.net.parameters()))
    assert metrics["complexity/activation_sparsity"].shape == (3, 2)
    assert metrics["complexity/weight_entropy"].shape == (3, 3)
    assert (metrics["complexity/local_circuit_complexity"] > 0).all()


@pytest.mark.refusal
def test_other_nets_are_refused():
    module = small.module()
    module.net = nn.Sequential(nn.Linear(14, 7))
    with pytest.raises(
        ValueError, match=r"^progress measures of hidden units need a net with two"
    ):
        InverseParticipation().columns(module)
    with pytest.raises(ValueError, match=r"^progress measures of complexity need a net"):
        Complexity().columns(module)
    with pytest.raises(ValueError, match=r"^operation must be one of add, multiply"):
        InverseParticipation(operation="divide")
    with pytest.raises(ValueError, match=r"^weights must be one of all, first"):
        Complexity(weights="last")
