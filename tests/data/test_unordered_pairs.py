"""Unordered pairs: the published counts and split, and nothing that leaks."""

from __future__ import annotations

import random

import pytest
import torch

from grokscope.data import UnorderedPairsDataModule


def splits(**settings):
    data = UnorderedPairsDataModule(**settings)
    data.setup()
    return data.train, data.test


def test_the_published_numbers_of_pairs():
    train, test = splits()
    assert (len(train), len(test)) == (911, 1367)
    train, test = splits(diagonal=False)
    assert len(train) + len(test) == 2211


def test_the_split_is_the_released_one():
    pairs = [(i, j) for i in range(67) for j in range(67) if i <= j]
    random.seed(3)
    random.shuffle(pairs)
    train, test = splits(seed=3)
    assert {tuple(pair) for pair in train.inputs.tolist()} == set(pairs[:911])
    assert {tuple(pair) for pair in test.inputs.tolist()} == set(pairs[911:])


def test_no_pair_is_in_both_splits_in_either_order():
    train, test = (
        {frozenset(pair) for pair in split.inputs.tolist()} for split in splits(modulus=11)
    )
    assert not train & test
    assert len(train | test) == 66


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("add", lambda a, b: a + b),
        ("subtract", lambda a, b: a - b),
        ("multiply", lambda a, b: a * b),
        ("x2_xy_y2", lambda a, b: a * a + a * b + b * b),
    ],
)
def test_targets_are_the_operation(operation, answer):
    for split in splits(modulus=7, operation=operation):
        a, b = split.inputs.unbind(1)
        assert torch.equal(split.targets, answer(a, b) % 7)
        assert split.inputs.dtype == split.targets.dtype == torch.int64


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"modulus": 1}, "modulus must be an integer >= 2"),
        ({"operation": "power"}, "operation must be one of add"),
        ({"train_fraction": 1.0}, "train_fraction must be a number > 0 and < 1"),
        ({"modulus": 2, "train_fraction": 0.1}, "train_fraction must leave a pair for training"),
        ({"diagonal": 1}, "diagonal must be true or false"),
    ],
)
def test_bad_arguments_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        UnorderedPairsDataModule(**settings)
