from __future__ import annotations

import random

import pytest
import torch

from grokscope.data import ModularDataModule


def module(**settings) -> ModularDataModule:
    task = ModularDataModule(**settings)
    task.setup()
    return task


def pairs(split) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b, *_ in split.inputs}


def test_nandas_split_is_that_of_python_random_with_seed_zero() -> None:
    task = module(modulus=113, train_fraction=0.3, split="python", seed=0)
    assert (len(task.train), len(task.test)) == (3830, 8939)
    everything = [(a, b) for a in range(113) for b in range(113)]
    random.Random(0).shuffle(everything)
    assert everything[:5] == [(18, 34), (10, 83), (55, 28), (25, 51), (63, 65)]
    assert pairs(task.train) == set(everything[:3830])


@pytest.mark.parametrize("split", ["python", "torch"])
def test_splits_are_disjoint_and_complete(split: str) -> None:
    task = module(modulus=11, train_fraction=0.4, split=split, seed=3)
    assert len(task.train) == int(0.4 * 121)
    assert pairs(task.train) | pairs(task.test) == {(a, b) for a in range(11) for b in range(11)}
    assert not pairs(task.train) & pairs(task.test)


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("add", lambda a, b: a + b),
        ("subtract", lambda a, b: a - b),
        ("multiply", lambda a, b: a * b),
        ("x2_xy_y2", lambda a, b: a * a + a * b + b * b),
    ],
)
def test_targets_are_the_operation_modulo_p(operation: str, function) -> None:
    task = module(modulus=7, operation=operation, train_fraction=0.5)
    for split in (task.train, task.test):
        for (a, b, equals), c in zip(split.inputs.tolist(), split.targets.tolist(), strict=True):
            assert c == function(a, b) % 7
            assert equals == 7


def test_one_hot_inputs_have_a_one_in_each_block() -> None:
    task = module(modulus=5, train_fraction=0.5, encoding="one_hot")
    blocks = task.train.inputs.reshape(-1, 2, 5)
    assert torch.equal(blocks.sum(2), torch.ones(len(task.train), 2))
    a, b = blocks.argmax(2).unbind(1)
    assert torch.equal((a + b) % 5, task.train.targets)


def test_the_seed_decides_the_split_and_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (module(modulus=9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert pairs(first.train) == pairs(again.train) != pairs(other.train)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modulus": 1}, "modulus must be an integer >= 2 and <= 10000, got 1"),
        ({"operation": "power"}, "operation must be one of add, subtract"),
        ({"train_fraction": 0.0}, "train_fraction must be a number > 0 and < 1, got 0.0"),
        ({"modulus": 2, "train_fraction": 0.1}, "must leave a pair for training"),
        ({"encoding": "binary"}, "encoding must be one of tokens, pairs, one_hot"),
        ({"split": "numpy"}, "split must be one of python, torch"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModularDataModule(**settings)


def test_quotients_leave_out_division_by_zero() -> None:
    """The pairs are those of the code of Mallinar et al. 2024: x * y over y, for y != 0."""
    task = module(modulus=7, operation="divide", train_fraction=0.5)
    assert len(task.train) == 21
    both = [*zip(task.train.inputs.tolist(), task.train.targets.tolist(), strict=True)]
    assert [inputs for inputs, _ in both] == sorted(inputs for inputs, _ in both)
    both += zip(task.test.inputs.tolist(), task.test.targets.tolist(), strict=True)
    found = {(a, b, c) for (a, b, _), c in both}
    assert found == {(x * y % 7, y, x) for x in range(7) for y in range(1, 7)}


@pytest.mark.refusal
def test_division_needs_a_prime() -> None:
    with pytest.raises(ValueError, match="modulus must be a prime for operation=divide, got 9"):
        ModularDataModule(modulus=9, operation="divide")
