"""Local complexity and adversarial accuracy beside a training run."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.humayun import AdversarialAccuracy, LocalComplexities
from grokscope.data.base import Split, TensorDataModule
from grokscope.measures.adversarial import adversarial_accuracy
from grokscope.measures.local_complexity import local_complexity
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import MLP

EPOCHS = 4


class Blobs(TensorDataModule):
    """Two classes of points in a square."""

    def make_splits(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(60, 5, generator=generator)
        y = (x[:, 0] > 0.5).long()
        return Split(x[:20], y[:20]), Split(x[20:], y[20:])


def module(seed=0):
    net = MLP([5, 8, 8, 2], "relu", seed=seed)
    adam = partial(torch.optim.AdamW, lr=1e-2)
    return GrokkingModule(net, SquaredError(), ArgmaxAccuracy(), adam)


def measures():
    return {
        "complexity": LocalComplexities("every 2", 0.3, 3, 10, seed=4, chunk_size=3),
        "adversarial": AdversarialAccuracy("every 2", [0.0, 0.1], 0.05, 3, 15, seed=4),
    }


def fit(folder, callbacks=(), epochs=EPOCHS):
    made = module()
    trainer = small.trainer(epochs, callbacks, folder)
    trainer.fit(made, datamodule=Blobs(batch_size=7))
    return made


def test_rows_are_those_of_the_pure_functions(tmp_path):
    fit(tmp_path, [GOPCallback((), progress=measures(), output_dir=tmp_path)])
    run = Run.open(tmp_path)
    metrics = run.metrics
    assert metrics["complexity/epoch"].tolist() == [0, 2]
    assert metrics["complexity/train_layers"].shape == (2, 3)
    assert metrics["adversarial/accuracy"].shape == (2, 2)
    data, net = Blobs(), module().net
    data.setup()
    rows = torch.randperm(20, generator=torch.Generator().manual_seed(4))[:10].sort().values
    settings = {"radius": 0.3, "n_directions": 3, "seed": 4}
    train = local_complexity(net, data.train.inputs[rows], **settings)
    assert metrics["complexity/train"][0] == pytest.approx(train.mean)
    assert metrics["complexity/train_99"][0] == pytest.approx(train.half_width)
    np.testing.assert_allclose(metrics["complexity/train_layers"][0], train.layer_means)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(4))[:15].sort().values
    x, y = data.test.inputs[rows], data.test.targets[rows]
    expected = adversarial_accuracy(
        net,
        x,
        y,
        epsilon=0.1,
        alpha=0.05,
        steps=3,
        generator=torch.Generator().manual_seed(4),
    )
    assert metrics["adversarial/accuracy"][0, 1] == expected
    assert metrics["adversarial/accuracy"][0, 0] == metrics["adversarial/clean"][0]
    assert metrics["adversarial/clean"][0] == float((net(x).argmax(1) == y).double().mean())


def test_random_points_fill_the_range_and_stay_the_same():
    made = LocalComplexities(n_points=500, low=-2.0, high=3.0)
    like = module()
    data = Blobs()
    data.setup()
    like.prepare_data_on_device(data)
    points = made._points(like, "random")
    assert points.shape == (500, 5)
    assert (points.min() > -2.0) & (points.min() < -1.9) & (points.max() > 2.9)
    assert torch.equal(points, made._points(like, "random"))
    assert len(made._points(like, "train")) == 20


def test_training_is_not_disturbed(tmp_path):
    torch.manual_seed(0)
    with_them = fit(tmp_path, [GOPCallback((), progress=measures(), output_dir=tmp_path)])
    state = torch.get_rng_state()
    torch.manual_seed(0)
    without = fit(tmp_path)
    assert all(map(torch.equal, with_them.parameters(), without.parameters()))
    assert torch.equal(state, torch.get_rng_state())


def test_sets_can_be_chosen():
    made = LocalComplexities(sets=["test"])
    assert set(made.columns(module())) == {"test", "test_99", "test_layers"}
    assert made.attributes(module())["layers"] == ["layers.0", "layers.1", "layers.2"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (LocalComplexities, {"sets": ["all"]}, "sets must be one of train, test, random"),
        (LocalComplexities, {"low": 1.0, "high": 1.0}, "high must be a number > 1"),
        (LocalComplexities, {"radius": 0}, "radius must be a number > 0"),
        (AdversarialAccuracy, {"epsilons": []}, "epsilons must hold at least one number"),
        (AdversarialAccuracy, {"steps": 0}, "steps must be an integer"),
    ],
)
def test_wrong_settings_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
