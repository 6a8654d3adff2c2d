"""Confusion and margins beside torchmetrics and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from grokscope.measures.classes import confusion_matrix, logit_margins, margins_by_class


def sample(n=200, c=5):
    rng = torch.Generator().manual_seed(0)
    outputs = torch.randn(n, c, generator=rng)
    return outputs, torch.randint(c - 1, (n,), generator=rng)  # the last class has none


def test_the_confusion_matrix_is_that_of_torchmetrics():
    outputs, classes = sample()
    found = confusion_matrix(outputs, classes)
    assert torch.equal(found, multiclass_confusion_matrix(outputs, classes, num_classes=5))
    assert found.trace() == (outputs.argmax(1) == classes).sum()


def test_margins_are_positive_just_where_the_answer_is_right():
    outputs, classes = sample()
    found = logit_margins(outputs, classes)
    assert torch.equal(found > 0, outputs.argmax(1) == classes)
    for z, y, margin in zip(outputs.double().numpy(), classes.tolist(), found, strict=True):
        assert margin == z[y] - max(np.delete(z, y))


def test_margins_by_class_are_means_and_minima_over_its_samples():
    outputs, classes = sample()
    means, smallest = margins_by_class(outputs, classes)
    margins = logit_margins(outputs, classes)
    for c in range(4):
        own = margins[classes == c]
        assert float(means[c]) == pytest.approx(float(own.mean()), rel=1e-12)
        assert float(smallest[c]) == float(own.min())
    assert means[4].isnan()
    assert smallest[4].isnan()


@pytest.mark.refusal
@pytest.mark.parametrize("measure", [confusion_matrix, logit_margins, margins_by_class])
def test_what_does_not_fit_is_refused(measure):
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(4,\)"):
        measure(torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="classes must be 0 to 1, got 0 to 2"):
        measure(torch.zeros(3, 2), torch.arange(3))


@pytest.mark.refusal
def test_a_single_class_has_no_margin():
    with pytest.raises(ValueError, match="at least 2 classes"):
        logit_margins(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
