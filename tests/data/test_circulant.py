from __future__ import annotations

import pytest
import torch

from grokscope.data import ModularDataModule
from grokscope.data.circulant import (
    CirculantModularDataModule,
    positive_root,
    random_circulant_features,
)
from grokscope.measures.rfm import feature_deviation, quadratic_kernel


@pytest.mark.parametrize("operation", ["add", "subtract"])
def test_features_have_the_structure_of_the_operation(operation: str) -> None:
    features = random_circulant_features(11, hankel=operation == "subtract", seed=1)
    assert torch.equal(features, features.T)
    assert feature_deviation(features, operation) < 1e-25
    root = positive_root(features, 4)
    assert feature_deviation(root, operation) < 1e-20
    squared = root @ root
    torch.testing.assert_close(squared, positive_root(features, 2), rtol=0, atol=1e-10)


def test_the_square_root_is_the_real_part_of_the_principal_one() -> None:
    values, vectors = torch.linalg.eigh(random_circulant_features(31))
    assert values[0] < -0.1  # indefinite
    complex_root = (vectors.cdouble() * values.cdouble().sqrt()) @ vectors.cdouble().T
    found = positive_root(random_circulant_features(31), 2)
    torch.testing.assert_close(found, complex_root.real, rtol=0, atol=1e-7)


def test_inputs_are_those_of_the_one_hot_task_seen_through_the_root() -> None:
    data = CirculantModularDataModule(7, "add", 0.5, seed=2)
    plain = ModularDataModule(7, "add", 0.5, "one_hot", "torch", 2)
    for each in (data, plain):
        each.setup()
    features = random_circulant_features(7, seed=2)
    x, z = (d.train.inputs.double() for d in (plain, data))
    expected = quadratic_kernel(x, x, positive_root(features, 2))
    found = quadratic_kernel(z, z, torch.eye(14, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(data.train.targets, plain.train.targets)


def test_a_kernel_on_random_circulant_features_generalises_at_once() -> None:
    """Half of the pairs of p = 31; on one-hot inputs the same kernel knows nothing of the rest."""
    data = CirculantModularDataModule(31, "add", 0.5)
    plain = ModularDataModule(31, "add", 0.5, "one_hot")
    scores = []
    for each in (data, plain):
        each.setup()
        x, z = (s.inputs.double() for s in (each.train, each.test))
        targets = torch.eye(31, dtype=torch.float64)[each.train.targets]
        alpha = torch.linalg.solve((x @ x.T).square(), targets)
        right = ((z @ x.T).square() @ alpha).argmax(1) == each.test.targets
        scores.append(float(right.double().mean()))
    assert scores[0] > 0.8
    assert scores[1] < 0.05


@pytest.mark.refusal
def test_other_operations_are_refused() -> None:
    with pytest.raises(ValueError, match="operation must be one of add, subtract, got 'multiply'"):
        CirculantModularDataModule(7, "multiply")
