"""Sharpness in a run: that of the pure function, and the weights are put back."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from torch.nn.utils import parameters_to_vector

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.power import Sharpness
from grokscope.measures.sharpness import keskar_sharpness


def fit(folder, measures, epochs=4):
    made = small.module()
    callback = GOPCallback((), progress=measures, output_dir=folder)
    trainer = small.trainer(epochs, [callback], folder)
    trainer.fit(made, datamodule=small.data())
    return made, Run.open(folder).metrics


def test_rows_are_those_of_the_pure_function_and_training_goes_on_as_before(tmp_path):
    settings = {"n_directions": 3, "radius": 1e-2, "seed": 2}
    made, metrics = fit(tmp_path / "a", {"sharp": Sharpness("at 0 3", chunk=5, **settings)})
    plain, _ = fit(tmp_path / "b", {})
    for a, b in zip(made.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    first, data = small.module(), small.data()
    data.setup()
    targets = first.loss.prepare(data.train.targets, 7)
    parameters = list(first.net.parameters())

    def evaluate(weights):
        vector = torch.from_numpy(weights).float()
        sizes = [p.numel() for p in parameters]
        with torch.no_grad():
            for p, piece in zip(parameters, vector.split(sizes), strict=True):
                p.copy_(piece.view_as(p))
        loss = first.loss.mean(first.net(data.train.inputs), targets)
        gradient = torch.autograd.grad(loss, parameters)
        return loss.item(), parameters_to_vector(gradient).double().numpy()

    weights = parameters_to_vector(parameters).detach().double().numpy()
    expected = keskar_sharpness(evaluate, weights, **settings)
    assert expected > 0
    assert metrics["sharp/sharpness"].shape == (2,)
    assert metrics["sharp/sharpness"][0] == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(metrics["sharp/sharpness"]).all()


@pytest.mark.refusal
def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="chunk must be an integer >= 1"):
        Sharpness(chunk=0)
