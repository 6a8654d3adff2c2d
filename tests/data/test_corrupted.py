"""Wrong labels: the released data bit for bit, and which pairs are which."""

from __future__ import annotations

import random

import pytest
import torch

from grokscope.data import CorruptedModularDataModule


def ready(**arguments) -> CorruptedModularDataModule:
    data = CorruptedModularDataModule(**({"modulus": 23} | arguments))
    data.setup()
    return data


def released(p, pair_seed, fraction, noise):
    """What d-doshi/Grokking:utils/datasets.py, noisy_dataset, does: pairs and labels, shuffled."""
    pairs = [(i, j) for i in range(p) for j in range(p)]
    random.seed(pair_seed)
    order = list(range(len(pairs)))
    random.shuffle(order)
    x = torch.tensor([pairs[i] for i in order])
    y = x.sum(1) % p
    n_train = int(fraction * len(y))
    n_noise = int(noise * n_train)
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        y[:n_noise] = torch.randint(0, p, (n_noise,))
    return x, y, n_train, n_noise


def pairs(split, p):
    a, b = split.inputs.split(p, 1)
    return torch.stack([a.argmax(1), b.argmax(1)], 1)


def as_set(x, y):
    return {(int(a), int(b), int(c)) for (a, b), c in zip(x, y, strict=True)}


@pytest.mark.parametrize(("p", "fraction", "noise"), [(97, 0.5, 0.35), (23, 0.65, 0.2)])
def test_the_released_data_are_reproduced(p, fraction, noise):
    x, y, n_train, n_noise = released(p, 420, fraction, noise)
    data = ready(
        modulus=p,
        train_fraction=fraction,
        corruption=noise,
        split="python",
        seed=420,
        label_seed=0,
    )
    assert (len(data.train), data.n_corrupted) == (n_train, n_noise)
    for split, rows in [
        (data.train, slice(n_train)),
        (data.test, slice(n_train, None)),
        (data.extra["corrupted"], slice(n_noise)),
        (data.extra["clean"], slice(n_noise, n_train)),
    ]:
        assert as_set(pairs(split, p), split.targets) == as_set(x[rows], y[rows])


def test_clean_and_corrupted_are_the_training_set_and_restored_has_the_truth():
    data = ready(corruption=0.4)
    extra, train = data.extra, as_set(pairs(data.train, 23), data.train.targets)
    parts = [as_set(pairs(extra[n], 23), extra[n].targets) for n in ("clean", "corrupted")]
    assert parts[0] | parts[1] == train
    assert not parts[0] & parts[1]
    for name in ("clean", "restored"):
        assert torch.equal(extra[name].targets, pairs(extra[name], 23).sum(1) % 23)
    assert torch.equal(extra["restored"].inputs, extra["corrupted"].inputs)
    assert torch.equal(data.test.targets, pairs(data.test, 23).sum(1) % 23)


def test_a_wrong_label_is_right_by_chance_once_in_p():
    data = ready(modulus=31, corruption=0.9, train_fraction=0.9)
    wrong = data.extra["corrupted"].targets
    share = (wrong == data.extra["restored"].targets).double().mean().item()
    n = len(wrong)
    assert share == pytest.approx(1 / 31, abs=4 * (1 / 31 / n) ** 0.5)
    assert wrong.max() == 30  # the last label too


def test_the_split_does_not_depend_on_the_corruption():
    assert torch.equal(ready(corruption=0.1).test.inputs, ready(corruption=0.7).test.inputs)
    clean = ready(corruption=0.0)
    assert list(clean.extra) == ["clean"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"corruption": 1.0}, "corruption must be a number"),
        ({"corruption": -0.1}, "corruption must be a number"),
        ({"label_seed": -1}, "label_seed must be an integer >= 0"),
        ({"operation": "divide"}, "operation must be one of add, subtract"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        CorruptedModularDataModule(**arguments)
