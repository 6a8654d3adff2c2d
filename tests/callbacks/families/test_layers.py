"""Layers' rows equal the functions at the weights."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints
from grokscope.callbacks.families.layers import LayerProgress
from grokscope.measures.activations import representations
from grokscope.measures.kernels import linear_cka, participation_ratio, rbf_cka


def record(folder, module, epochs=9, ckpt_path=None, **settings):
    callbacks = [
        GOPCallback(
            kinds=[], output_dir=folder, progress={"layers": LayerProgress("every 4", **settings)}
        ),
        Checkpoints(folder / "checkpoints", schedule="at 5"),
    ]
    small.trainer(epochs, callbacks, folder).fit(module, small.data(), ckpt_path=ckpt_path)
    return Run.open(folder).metrics


@pytest.mark.parametrize(
    ("kernel", "of", "debiased"),
    [("linear", linear_cka, False), ("linear", linear_cka, True), ("rbf", rbf_cka, True)],
)
def test_the_first_row_is_that_of_the_initial_net(tmp_path, kernel, of, debiased):
    net = small.module().net
    found = record(tmp_path, small.module(), kernel=kernel, debiased=debiased, probe=1000)
    data = small.data()
    data.prepare_data()
    data.setup("fit")
    layers = list(representations(net, data.test.inputs).values())
    expected = [[of(a, b, debiased=debiased) for b in layers] for a in layers]
    np.testing.assert_allclose(found["layers/cka"][0], expected, rtol=1e-9)
    ratios = [participation_ratio(x) for x in layers]
    np.testing.assert_allclose(found["layers/participation_ratio"][0], ratios, rtol=1e-9)
    np.testing.assert_allclose(found["layers/cka_start"][0], 1, rtol=1e-9)
    assert (found["layers/cka_start"][-1] < 1 - 1e-6).any()


def test_a_resumed_run_compares_with_the_same_start(tmp_path):
    whole = record(tmp_path / "whole", small.module())
    record(tmp_path / "cut", small.module(), epochs=6)
    last = tmp_path / "cut" / "checkpoints" / "epoch_5.ckpt"
    torch.manual_seed(7)
    again = record(tmp_path / "cut", small.module(), ckpt_path=last)
    np.testing.assert_array_equal(again["layers/cka_start"], whole["layers/cka_start"])
