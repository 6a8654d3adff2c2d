"""Operators, tokens, split and label noise of Power et al. against a second implementation.

The second one works with strings, as the released code does: openai/grok:grok/data.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from grokscope.data import EquationDataModule
from grokscope.data.operators import OPERATORS, count_equations, equations, vocabulary

P = 97
MODULAR = {
    "add": ("+", lambda x, y: x + y),
    "subtract": ("-", lambda x, y: x - y),
    "multiply": ("*", lambda x, y: x * y),
    "square_plus": ("**2+", lambda x, y: x**2 + y),
    "cube_plus": ("**3+", lambda x, y: x**3 + y),
    "quad1": ("x**2+y**2_mod_97", lambda x, y: x**2 + y**2),
    "quad2": ("x**2+y**2+x*y_mod_97", lambda x, y: x**2 + y**2 + x * y),
    "quad3": ("x**2+y**2+x*y+x_mod_97", lambda x, y: x**2 + y**2 + x * y + x),
    "cube1": ("x**3+x*y_mod_97", lambda x, y: x**3 + x * y),
    "cube2": ("x**3+x*y**2+y_mod_97", lambda x, y: x**3 + x * y**2 + y),
    "mix1": (
        "(x._value//y)if(y._value%2==1)else(x-y)_mod_97",
        lambda x, y: x * pow(y, -1, P) if y % 2 else x - y,
    ),
    "even_add_odd_multiply": ("+*", lambda x, y: x * y if x % 2 else x + y),
    "even_add_odd_subtract": ("+-", lambda x, y: x - y if x % 2 else x + y),
}
LISTS = {"sort": sorted, "reverse": lambda row: row[::-1], "copy": list}


def product(*factors):
    """Permutations applied from left to right, one entry at a time."""
    found = []
    for i in range(5):
        for factor in factors:
            i = factor[i]
        found.append(i)
    return tuple(found)


def inverse(a):
    return tuple(a.index(i) for i in range(5))


S5 = {
    "s5": lambda a, b: tuple(b[a[i]] for i in range(5)),
    "s5conj": lambda a, b: product(a, b, inverse(a)),
    "s5aba": lambda a, b: product(a, b, a),
}


def text(permutation):
    return "".join(map(str, permutation))


def lines(name, length=2):
    """All equations as strings, in the order of the released code."""
    if name == "divide":
        pairs = [(c, b) for c, b in itertools.product(range(P), repeat=2) if b]
        return [f"{b * c % P} / {b} = {c}" for c, b in pairs]
    if name in MODULAR:
        token, function = MODULAR[name]
        pairs = itertools.product(range(P), repeat=2)
        return [f"{a} {token} {b} = {function(a, b) % P}" for a, b in pairs]
    if name in S5:
        pairs = itertools.product(itertools.permutations(range(5)), repeat=2)
        return [f"{text(a)} {name} {text(b)} = {text(S5[name](a, b))}" for a, b in pairs]
    rows = itertools.permutations(range(P), length)
    pairs = ((row, LISTS[name](list(row))) for row in rows)
    return [f"{name} {' '.join(map(str, a))} = {' '.join(map(str, c))}" for a, c in pairs]


def published_split(name, fraction, noise=0):
    """Shuffled strings, the first ``noise`` of them with the answer of another."""
    data = lines(name)
    rng = np.random.RandomState(seed=0)
    rng.shuffle(data)
    if noise:
        answers = [line.split(" = ")[1] for line in rng.choice(data, size=noise)]
        for i in range(noise):
            data[i] = data[i].split(" = ")[0] + " = " + answers[i]
    n_train = round(len(data) * fraction)
    return data[:n_train], data[n_train:]


def sentences(split, words):
    """Inputs and the last target, as text."""
    rows = torch.cat([split.inputs, split.targets[:, -1:]], dim=1).tolist()
    return [" ".join(words[token] for token in row) for row in rows]


@pytest.fixture(scope="module")
def words():
    return vocabulary()


def test_the_vocabulary_is_the_published_one(words):
    assert len(words) == len(set(words)) == 239
    assert words[:3] == ("<|eos|>", "=", MODULAR["mix1"][0])
    assert words[22:24] == ("0", "1")
    assert words[118:121] == ("96", "01234", "01243")
    assert words[-1] == "43210"


@pytest.mark.parametrize("name", OPERATORS)
def test_every_equation_of_every_operator(name, words):
    length = 2 if name in LISTS else 1
    rows, n_answer = equations(name, P, length)
    expected = {"divide": 9312, **dict.fromkeys(S5, 14400), **dict.fromkeys(LISTS, 9312)}
    assert len(rows) == count_equations(name, P, length) == expected.get(name, 9409)
    assert n_answer == length
    assert rows.shape[1] == (8 if name in LISTS else 7)
    found = [" ".join(words[token] for token in row) for row in rows]
    assert found == [f"<|eos|> {line} <|eos|>" for line in lines(name)]


def test_there_are_twenty_operators():
    assert len(OPERATORS) == 20
    assert set(OPERATORS) == {"divide", *MODULAR, *S5, *LISTS}


@pytest.mark.parametrize(
    ("name", "fraction", "n_train"),
    [("divide", 0.5, 4656), ("add", 0.5, 4704), ("s5", 0.3, 4320), ("sort", 0.05, 466)],
)
def test_the_split_is_the_published_one(name, fraction, n_train, words):
    data = EquationDataModule(name, fraction, operand_length=2 if name == "sort" else 1)
    data.setup()
    train, test = published_split(name, fraction)
    assert len(data.train) == n_train
    assert sentences(data.train, words) == [f"<|eos|> {line} <|eos|>" for line in train]
    assert sentences(data.test, words) == [f"<|eos|> {line} <|eos|>" for line in test]


def test_the_first_rows_of_the_split_of_figure_1(words):
    data = EquationDataModule()
    data.setup()
    assert sentences(data.train, words)[:2] == [
        "<|eos|> 77 / 47 = 78 <|eos|>",
        "<|eos|> 11 / 23 = 30 <|eos|>",
    ]
    assert data.train.inputs.shape == (4656, 6)
    assert data.train.targets.shape == (4656, 2)
    assert (data.train.targets[:, 0] == data.train.inputs[:, 5]).all()
    assert not data.train.targets[:, 1].any()


def test_targets_of_lists_are_the_list_and_the_end():
    data = EquationDataModule("reverse", 0.1, operand_length=3, n_equations=500)
    data.setup()
    assert len(data.train) == 50
    assert len(data.test) == 450
    inputs, targets = data.train.inputs, data.train.targets
    assert inputs.shape == (50, 9)
    assert torch.equal(targets[:, :3], inputs[:, 2:5].flip(1))
    assert torch.equal(targets[:, :3], inputs[:, 6:])


def test_the_split_does_not_depend_on_the_seed_but_on_its_own():
    first, other, third = (
        EquationDataModule("s5", 0.2, seed=0),
        EquationDataModule("s5", 0.2, seed=7),
        EquationDataModule("s5", 0.2, split_seed=1),
    )
    for data in (first, other, third):
        data.setup()
    assert torch.equal(first.train.inputs, other.train.inputs)
    assert not torch.equal(first.train.inputs, third.train.inputs)
    assert next(first.batch_rows(0)).tolist() != next(other.batch_rows(0)).tolist()


@pytest.mark.parametrize(("name", "noise"), [("s5", 1000), ("add", 10)])
def test_label_noise_is_that_of_the_released_code(name, noise, words):
    data = EquationDataModule(name, 0.5, label_noise=noise)
    data.setup()
    train, test = published_split(name, 0.5, noise)
    assert sentences(data.train, words) == [f"<|eos|> {line} <|eos|>" for line in train]
    assert sentences(data.test, words) == [f"<|eos|> {line} <|eos|>" for line in test]
    noisy, true = data.extra["noisy"], data.extra["noisy_true"]
    assert len(noisy) == len(true) == noise
    assert torch.equal(noisy.inputs, data.train.inputs[:noise])
    assert torch.equal(true.inputs[:, :5], noisy.inputs[:, :5])
    clean = EquationDataModule(name, 0.5)
    clean.setup()
    assert torch.equal(true.targets, clean.train.targets[:noise])
    assert torch.equal(clean.train.inputs[noise:], data.train.inputs[noise:])


def test_noise_of_the_paper_comes_from_the_training_set():
    settings = {"operator": "s5", "train_fraction": 0.005, "label_noise": 60}
    data = EquationDataModule(**settings, noise_from="train")
    clean = EquationDataModule("s5", 0.005)
    for each in (data, clean):
        each.setup()
    assert set(data.train.targets[:, 0].tolist()) <= set(clean.train.targets[:, 0].tolist())
    everywhere = EquationDataModule(**settings)
    everywhere.setup()
    assert not set(everywhere.train.targets[:, 0].tolist()) <= set(
        clean.train.targets[:, 0].tolist()
    )


@pytest.mark.parametrize(
    ("given", "fraction", "expected", "steps"),
    [
        ("auto", 0.5, 512, 10),
        ("auto", 0.05, 233, 2),
        (None, 0.5, None, 1),
        (0.25, 0.5, 1164, 4),
        (100, 0.5, 100, 47),
        (10_000, 0.5, None, 1),
    ],
)
def test_batch_sizes(given, fraction, expected, steps):
    data = EquationDataModule("divide", fraction, batch_size=given)
    data.setup()
    assert (data.batch_size, data.steps_per_epoch) == (expected, steps)


def test_another_modulus_keeps_the_tokens_in_order():
    rows, _ = equations("divide", 5)
    assert len(rows) == 20
    numbers = rows[:, [1, 3, 5]] - 22
    assert ((numbers[:, 2] * numbers[:, 1] - numbers[:, 0]) % 5 == 0).all()
    assert len(vocabulary(5)) == 147


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operator": "plus"}, "operator must be one of add, subtract"),
        ({"modulus": 6}, "modulus must be a prime for operator divide, got 6"),
        ({"operator": "add", "modulus": 1}, "modulus must be an integer >= 2"),
        ({"operand_length": 2}, "operand_length must be an integer >= 1 and <= 1"),
        ({"operator": "sort"}, "operand_length must be an integer >= 2 and <= 97"),
        ({"operator": "sort", "operand_length": 4}, "at most 2000000 lists, got 4"),
        ({"train_fraction": 1.0}, "train_fraction must be a number > 0 and < 1"),
        ({"train_fraction": 1e-5}, "train_fraction must leave an equation"),
        ({"label_noise": 5000}, "label_noise must be an integer >= 0 and <= 4656"),
        ({"noise_from": "test"}, "noise_from must be one of all, train"),
        ({"batch_size": "half"}, "batch_size must be auto, null, a share or a number"),
        ({"batch_size": 1.5}, "batch_size must be a number > 0 and < 1"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"n_equations": 9313}, "n_equations must be an integer >= 2 and <= 9312"),
        ({"split_seed": -1}, "split_seed must be an integer >= 0"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EquationDataModule(**settings)
