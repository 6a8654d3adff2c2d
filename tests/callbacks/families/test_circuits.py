"""Circuit measures: rows of a run equal the functions at its weights."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import small
import torch
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.circuits import CircuitProgress, all_pairs, authors_weights
from grokscope.data import ModularDataModule
from grokscope.data.base import Split
from grokscope.measures.fourier import (
    activations,
    dominant_frequencies,
    explained_variance,
    key_frequencies,
    logit_measures,
    nanda_measures,
    neuron_frequencies,
)
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, CrossEntropy
from grokscope.nets import MLP, BareTransformer, OneLayerTransformer

P = 7


def transformer(softmax="softmax"):
    return OneLayerTransformer(P + 1, 3, 12, 3, 5, 20, softmax, seed=1)


def fit(net, folder, data, **progress):
    optimizer = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
    module = GrokkingModule(net, CrossEntropy(), ArgmaxAccuracy(), optimizer)
    callback = GOPCallback(kinds=(), progress=progress, output_dir=folder)
    small.trainer(2, [callback], folder).fit(module, datamodule=data)
    return Run.open(folder).metrics


def tokens():
    return ModularDataModule(modulus=P, train_fraction=0.5, seed=3)


def train_mask(data):
    data.setup()
    rows = data.train.inputs
    a, b = rows[:, :2].T if rows.shape[1] < 2 * P else (x.argmax(1) for x in rows.split(P, 1))
    mask = torch.zeros(P * P, dtype=torch.bool)
    mask[a * P + b] = True
    return mask


def logits_of(net, data):
    data.setup()
    inputs = torch.cat([data.train.inputs, data.test.inputs])
    answers = torch.cat([data.train.targets, data.test.targets])
    mask = train_mask(data)
    with torch.no_grad():
        outputs = net.double()(inputs.double() if inputs.is_floating_point() else inputs)
    found = outputs.new_empty(P * P, P)
    found[torch.cat([mask.nonzero(), (~mask).nonzero()]).flatten()] = outputs[:, :P]
    a, b = np.divmod(np.arange(P * P), P)
    order = torch.cat([mask.nonzero(), (~mask).nonzero()]).flatten().numpy()
    assert answers.tolist() == ((a + b) % P)[order].tolist()  # splits are listed by a, then b
    return found, mask


def assert_row(metrics, group, expected):
    columns = {n.split("/", 1)[1] for n in metrics if n.startswith(f"{group}/")}
    assert columns - {"epoch", "step"} == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            metrics[f"{group}/{name}"][0], value, rtol=1e-9, atol=1e-12, err_msg=name
        )


def of_transformer(weights, mask, keys):
    found = nanda_measures(weights, P, mask, keys)
    del found["neuron_frac_explained"], found["neuron_norms_sq"]
    for matrix in ("W_E", "W_L"):
        variants = found.pop(f"gini_{matrix}")
        found |= {f"gini_{matrix}_{name}": value for name, value in variants.items()}
    explained = explained_variance(activations(weights, P).neurons)
    counts = np.bincount(neuron_frequencies(explained), minlength=4)[1:]
    flags = np.isin([1, 2, 3], key_frequencies(explained) if keys is None else keys)
    return found | {"neurons_by_freq": counts, "key_frequencies": flags}


@pytest.mark.parametrize("keys", [None, [1, 3]])
def test_rows_of_the_transformer_are_all_measures_of_its_weights(tmp_path, keys):
    net, data = transformer(), tokens()
    weights = {name: w.clone() for name, w in authors_weights(net).items()}
    measure = CircuitProgress(P, "every 1", keys)
    metrics = fit(net, tmp_path, data, circuit=measure)
    assert_row(metrics, "circuit", of_transformer(weights, train_mask(data), keys))
    assert metrics["circuit/W_attn_fourier"].shape == (2, 3, P)
    final = sum(float(w.square().sum()) for w in authors_weights(net).values())
    assert metrics["circuit/sum_sq_weights_total"][0] != pytest.approx(final)


def test_weights_have_the_authors_names_and_give_the_nets_logits():
    net = transformer().double()
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    inputs = torch.cat([pairs, torch.full((P * P, 1), P)], 1)
    found = activations(authors_weights(net), P)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, net(inputs), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "encoding"),
    [
        (lambda: MLP((2 * P, 16, P), "quadratic", bias=False, seed=0), "one_hot"),
        (lambda: BareTransformer(P, 2, 8, 1, 8, 16, seed=0), "pairs"),
        (lambda: transformer("softmax1"), "tokens"),
    ],
)
@pytest.mark.parametrize("keys", [None, [2]])
def test_rows_of_other_nets_are_the_measures_of_their_logits(tmp_path, make, encoding, keys):
    data = ModularDataModule(modulus=P, train_fraction=0.5, encoding=encoding, seed=3)
    metrics = fit(make(), tmp_path, data, circuit=CircuitProgress(P, "every 1", keys))
    logits, mask = logits_of(make(), data)
    chosen = dominant_frequencies(logits) if keys is None else keys
    expected = logit_measures(logits, mask, chosen)
    flags = np.isin([1, 2, 3], chosen)
    assert_row(metrics, "circuit", expected | {"key_frequencies": flags})


def test_the_net_trains_as_without(tmp_path):
    plain, measured = transformer(), transformer()
    fit(plain, tmp_path / "a", tokens())
    fit(measured, tmp_path / "b", tokens(), circuit=CircuitProgress(P, "every 1"))
    small.assert_equal(list(plain.parameters()), list(measured.parameters()))


def splits(train, test):
    batches = [SimpleNamespace(split=Split(*pair)) for pair in (train, test)]
    return SimpleNamespace(train_batch=batches[0], test_batch=batches[1])


def ordered(module, p):
    return all_pairs(module.train_batch.split, module.test_batch.split, p)


def made(p=3, targets=None):
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p)).flip(0)
    sums = pairs.sum(1) % p if targets is None else targets
    return (pairs[:4], sums[:4]), (pairs[4:], sums[4:])


def test_pairs_are_put_in_order_and_know_their_split():
    inputs, mask = ordered(splits(*made()), 3)
    assert inputs.tolist() == [[a, b] for a in range(3) for b in range(3)]
    assert mask.tolist() == [False] * 5 + [True] * 4


@pytest.mark.refusal
def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^modulus must be odd, got 8"):
        CircuitProgress(8)
    with pytest.raises(ValueError, match=r"^key_frequencies must be .* 1 to 3, got \[4\]"):
        CircuitProgress(P, key_frequencies=[4])


@pytest.mark.refusal
def test_tasks_of_another_kind_are_refused():
    train, test = made()
    with pytest.raises(ValueError, match=r"need every ordered pair of 3 .* got 8 inputs of which"):
        ordered(splits((train[0][1:], train[1][1:]), test), 3)
    with pytest.raises(
        ValueError, match=r"need every ordered pair of 3 .* got 9 inputs of which 5"
    ):
        ordered(splits((test[0][:4], test[1][:4]), test), 3)
    with pytest.raises(ValueError, match=r"need the targets \(a \+ b\) mod 3"):
        ordered(splits(*made(targets=torch.zeros(9, dtype=torch.int64))), 3)
    wide = torch.ones(5, 5), torch.ones(5)
    with pytest.raises(
        ValueError, match=r"need inputs of tokens .* got \(10, 5\) of torch.float32"
    ):
        ordered(splits(wide, wide), 3)


@pytest.mark.refusal
def test_nets_with_too_few_outputs_are_refused():
    one_hot = ((torch.eye(3)[x].flatten(1), y) for x, y in made())
    module = splits(*one_hot)
    module.net = nn.Linear(6, 2)
    with pytest.raises(ValueError, match=r"need a net with a logit for each of 3 classes, got"):
        CircuitProgress(3).measure(module)
