"""Tables of pairs, drawn as in the released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grokscope.data import ToyGroupDataModule
from grokscope.data.toy_groups import pair_table, templates


def ready(**arguments) -> ToyGroupDataModule:
    data = ToyGroupDataModule(**arguments)
    data.setup()
    return data


def test_split_and_targets_are_the_draws_of_the_released_code():
    np.random.seed(58)
    y = np.random.normal(0, 1, size=(19, 30))
    table = np.array([(i, j) for i in range(10) for j in range(i, 10)])
    train = np.random.choice(55, 45, replace=False)
    test = np.array(sorted(set(range(55)) - set(train.tolist())))
    data = ready(seed=58)
    np.testing.assert_array_equal(data.train.inputs, table[train])
    np.testing.assert_array_equal(data.test.inputs, table[test])
    np.testing.assert_array_equal(data.train_rows, train)
    wanted = torch.tensor(y[table[train].sum(axis=1)], dtype=torch.float)
    assert torch.equal(data.train.targets, wanted)


def test_classes_follow_draws_as_wide_as_there_are_answers():
    np.random.seed(1)
    np.random.normal(0, 1, size=(19, 19))
    train = np.random.choice(55, 20, replace=False)
    data = ready(seed=1, targets="classes", n_train=20)
    np.testing.assert_array_equal(data.train_rows, train)
    assert torch.equal(data.train.targets, data.train.inputs.sum(dim=1))
    assert data.train.targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("task", "size", "samples", "answers"),
    [("addition", 10, 55, 19), ("modular_addition", 7, 28, 7), ("permutations", 3, 36, 6)],
)
def test_tables_have_their_sizes_and_splits_are_disjoint(task, size, samples, answers):
    data = ready(task=task, size=size, n_train=samples // 2, seed=3)
    assert len(data.pairs) == samples
    assert sorted(set(data.answers.tolist())) == list(range(answers))
    both = torch.cat([data.train.inputs, data.test.inputs]).tolist()
    assert sorted(both) == sorted(data.pairs.tolist())
    assert templates(task, size, 30, 3).shape == (answers, 30)


def test_permutations_are_a_group_that_does_not_commute():
    pairs, answers = pair_table("permutations", 3)
    table = answers.reshape(6, 6)
    assert (np.sort(table, axis=0) == np.arange(6)[:, None]).all()
    assert (np.sort(table, axis=1) == np.arange(6)).all()
    assert (table != table.T).any()
    for a, b, c in np.ndindex(6, 6, 6):
        assert table[table[a, b], c] == table[a, table[b, c]]
    assert (table[0] == np.arange(6)).all()
    assert pairs[7].tolist() == [1, 1]


def test_the_released_example_of_a_product():
    """(0,2,1)(2,1,0) -> (2,0,1): op_out = op2[op1]."""
    elements = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    _, answers = pair_table("permutations", 3)
    assert elements[answers[6 * 1 + 5]] == (2, 0, 1)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()
    ready()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"task": "division"}, "task must be one of addition"),
        ({"size": 1}, "size must be an integer >= 2 and <= 200"),
        ({"task": "permutations", "size": 6}, "size must be an integer >= 2 and <= 5"),
        ({"n_train": 55}, "n_train must be an integer >= 1 and <= 54"),
        ({"targets": "values"}, "targets must be one of templates, classes"),
        ({"target_dim": 0}, "target_dim must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        ToyGroupDataModule(**arguments)
