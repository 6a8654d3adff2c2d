"""Features of a quadratic net beside a training run."""

from __future__ import annotations

from functools import partial

import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.mallinar import MachineFeatures, NeuralFeatures
from grokscope.data.base import Split, TensorDataModule
from grokscope.measures.feature_ansatz import feature_ansatz, psd_power
from grokscope.measures.input_gop import input_gop
from grokscope.measures.rfm import feature_deviation
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import MLP
from grokscope.nets.two_layer import TwoLayerMLP


def module(kind):
    net = kind((14, 16, 7), "quadratic", False, seed=0)
    adam = partial(torch.optim.AdamW, lr=1e-2)
    return GrokkingModule(net, SquaredError(), ArgmaxAccuracy(), adam).double()


@pytest.mark.parametrize("kind", [TwoLayerMLP, MLP])
def test_rows_are_those_of_the_pure_functions(kind, tmp_path):
    features = NeuralFeatures("every 2", matrix=True)
    callback = GOPCallback((), progress={"features": features}, output_dir=tmp_path)
    data = small.data(8)
    small.trainer(3, [callback], tmp_path).fit(module(kind), datamodule=data)
    metrics = Run.open(tmp_path).metrics
    net = module(kind).net
    weight = net.layers[0].weight.detach()
    root = psd_power(input_gop(net, data.train.inputs.double()).dense(), 0.5)
    for name, similarity in (("nfa", "pearson"), ("nfa_off_diagonal", "pearson_off_diagonal")):
        expected = feature_ansatz(weight, root @ root, 0.5, similarity=similarity)
        assert metrics[f"features/{name}"][0] == pytest.approx(expected, rel=1e-8)
    nfm = weight.T @ weight
    expected = feature_deviation(nfm, "add"), feature_deviation(root, "add")
    found = [metrics[f"features/{name}"][0] for name in ("deviation", "agop_deviation")]
    assert found == pytest.approx(expected, rel=1e-8)
    assert metrics["features/trace"][0] == pytest.approx(float((root @ root).trace()))
    assert metrics["features/nfm"].shape == metrics["features/agop_root"].shape == (2, 14, 14)
    torch.testing.assert_close(torch.tensor(metrics["features/nfm"][0]), nfm)


class NoOperation(TensorDataModule):
    def make_splits(self):
        return (Split(torch.ones(4, 14), torch.zeros(4, dtype=torch.int64)),) * 2


@pytest.mark.refusal
def test_a_task_without_an_operation_and_another_net_are_refused(tmp_path):
    callback = GOPCallback((), progress={"features": NeuralFeatures()}, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"data\.operation must be one of add, subtract"):
        small.trainer(3, [callback], tmp_path).fit(module(MLP), datamodule=NoOperation())
    with pytest.raises(ValueError, match="needs a kernel machine with features"):
        MachineFeatures().columns(module(MLP))
    other = module(MLP)
    other.net = torch.nn.Linear(14, 7)
    with pytest.raises(ValueError, match="needs a net with linear layers"):
        NeuralFeatures().columns(other)
