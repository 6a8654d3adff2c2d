"""Loss and accuracy of one logit beside torch's BCELoss and rounding."""

from __future__ import annotations

import torch
from torch import nn

from grokscope.models.binary import BinaryAccuracy, BinaryCrossEntropy


def test_loss_and_accuracy_are_those_of_the_sigmoid(generator):
    logits = 3 * torch.randn(40, 1, dtype=torch.float64, generator=generator)
    targets = (torch.rand(40, 1, generator=generator) > 0.5).double()
    loss = BinaryCrossEntropy()
    torch.testing.assert_close(loss.mean(logits, targets), nn.BCELoss()(logits.sigmoid(), targets))
    assert loss(logits, targets).shape == (40,)
    right = BinaryAccuracy()(logits, targets)
    assert torch.equal(right, (logits.sigmoid().round() == targets)[:, 0])


def test_confident_and_wrong_stays_finite():
    loss = BinaryCrossEntropy()(torch.tensor([[-500.0]]), torch.tensor([[1.0]]))
    assert loss.item() == 500
