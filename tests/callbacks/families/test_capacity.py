"""Capacity rows equal the function at the weights; layers that cannot be measured are NaN."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.capacity import CapacityProgress
from grokscope.callbacks.families.manifolds import GlueProgress, SimulatedCapacityProgress
from grokscope.measures.activations import representations
from grokscope.measures.capacity import (
    class_manifolds,
    glue_capacity,
    mean_field_capacity,
    simulated_capacity,
)

SETTINGS = {"n_points": 3, "n_probes": 50}


def record(folder, module, epochs=9, ckpt_path=None, measure=None, **settings):
    measure = measure or CapacityProgress("every 4", **SETTINGS, **settings)
    callbacks = [
        GOPCallback(kinds=[], output_dir=folder, progress={"capacity": measure}),
        Checkpoints(folder / "checkpoints", schedule="at 5"),
    ]
    small.trainer(epochs, callbacks, folder).fit(module, small.data(), ckpt_path=ckpt_path)
    return Run.open(folder).metrics


def split():
    data = small.data()
    data.prepare_data()
    data.setup("fit")
    return data.test


def initial_manifolds():
    """Of each layer: the first three test samples of every class."""
    test = split()
    rows = torch.cat([torch.nonzero(test.targets == c)[:3, 0] for c in test.targets.unique()])
    layers = representations(small.module().net, test.inputs[rows])
    return [class_manifolds(activations, test.targets[rows]) for activations in layers.values()]


@pytest.mark.parametrize("removal", [True, False])
def test_the_first_row_is_that_of_the_initial_net(tmp_path, removal):
    found = record(tmp_path, small.module(), remove_correlations=removal)
    for i, manifolds in enumerate(initial_manifolds()):
        expected = mean_field_capacity(manifolds, n_probes=50, remove_correlations=removal)
        for column in ("capacity", "radius", "dimension", "n_components", "standard_error"):
            value = found[f"capacity/{column}"][0, i]
            assert value == pytest.approx(getattr(expected, column), rel=1e-9), column


@pytest.mark.parametrize(
    ("measure", "function", "settings"),
    [
        (GlueProgress, glue_capacity, {"n_probes": 20, "dichotomies": "random", "seed": 3}),
        (SimulatedCapacityProgress, simulated_capacity, {"n_repeats": 4, "seed": 3}),
    ],
)
def test_the_other_capacities_are_those_of_the_initial_net(tmp_path, measure, function, settings):
    measure = measure("every 4", n_points=3, **settings)
    found = record(tmp_path, small.module(), measure=measure)
    for i, manifolds in enumerate(initial_manifolds()):
        expected = function(manifolds, **settings)
        for column in measure.names:
            value = found[f"capacity/{column}"][0, i]
            assert value == pytest.approx(getattr(expected, column), rel=1e-9, nan_ok=True), column


def test_a_resumed_run_starts_from_the_same_subspaces(tmp_path):
    whole = record(tmp_path / "whole", small.module())
    record(tmp_path / "cut", small.module(), epochs=6)
    last = tmp_path / "cut" / "checkpoints" / "epoch_5.ckpt"
    again = record(tmp_path / "cut", small.module(), ckpt_path=last)
    for column in ("capacity", "dimension", "n_components"):
        name = f"capacity/{column}"
        np.testing.assert_allclose(again[name], whole[name], rtol=1e-7, err_msg=name)


def test_a_dead_layer_is_nan_and_the_others_are_measured(tmp_path):
    module = small.module()
    with torch.no_grad():
        module.net.layers[1].weight.zero_()
    found = record(tmp_path, module)
    assert np.isnan(found["capacity/capacity"][0, 1])
    assert np.isfinite(found["capacity/capacity"][0, 0])


@pytest.mark.refusal
def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="n_classes must be"):
        CapacityProgress(n_classes=1)
