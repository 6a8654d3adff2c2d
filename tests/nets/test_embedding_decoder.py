"""The toy of representation learning, beside the released code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.data import ToyGroupDataModule
from grokscope.models.templates import NearestTemplateAccuracy
from grokscope.nets import EmbeddingDecoder


def decoder(d_in, d_out):
    return nn.Sequential(
        nn.Linear(d_in, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, d_out)
    )


def test_the_addition_net_is_drawn_as_in_the_released_code():
    torch.manual_seed(58)
    table, theirs = torch.rand(10, 1) - 1 / 2, decoder(1, 30)
    state = torch.get_rng_state()
    net = EmbeddingDecoder(seed=58)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.embedding.weight, table)
    pairs = torch.tensor([[0, 3], [9, 9], [4, 1]])
    assert torch.equal(net(pairs), theirs(table[pairs[:, 0]] + table[pairs[:, 1]]))


def test_the_permutation_net_is_drawn_as_in_the_released_code():
    torch.manual_seed(0)
    decoder(1, 9)
    theirs, table = decoder(9, 30), (torch.rand(6, 9) - 1 / 2) * 0.1
    net = EmbeddingDecoder(6, 9, "multiply", embed_range=0.1, seed=0)
    assert torch.equal(net.embedding.weight, table)
    pairs = torch.tensor([[0, 3], [5, 5], [4, 1]])
    product = table[pairs[:, 0]].view(3, 3, 3) @ table[pairs[:, 1]].view(3, 3, 3)
    torch.testing.assert_close(net(pairs), theirs(product.reshape(3, 9)))


def test_without_a_seed_it_draws_from_the_global_generator():
    torch.manual_seed(4)
    first = EmbeddingDecoder()
    second = EmbeddingDecoder()
    torch.manual_seed(4)
    assert torch.equal(EmbeddingDecoder().embedding.weight, first.embedding.weight)
    assert not torch.equal(second.embedding.weight, first.embedding.weight)


def test_scale_is_of_the_decoder_alone():
    plain, scaled = EmbeddingDecoder(seed=0), EmbeddingDecoder(scale=3.0, seed=0)
    assert torch.equal(plain.embedding.weight, scaled.embedding.weight)
    for a, b in zip(plain.decoder.parameters(), scaled.decoder.parameters(), strict=True):
        torch.testing.assert_close(3 * a, b)


def test_the_first_loss_of_seed_58_is_the_printed_one():
    """step: 0 | loss: 0.981..."""
    data = ToyGroupDataModule(seed=58)
    data.setup()
    outputs = EmbeddingDecoder(seed=58)(data.train.inputs)
    loss = (outputs - data.train.targets).square().mean().item()
    assert loss == pytest.approx(0.981, abs=5e-4)


def test_the_nearest_template_is_the_answer():
    right = NearestTemplateAccuracy("addition", 10, 30, 58)
    data = ToyGroupDataModule(seed=58)
    data.setup()
    targets, table = data.train.targets, right.templates
    rng = torch.Generator().manual_seed(0)
    outputs = targets + 2.5 * torch.randn(targets.shape, generator=rng)
    theirs = torch.argmin(torch.sum((outputs.unsqueeze(1) - table.unsqueeze(0)) ** 2, 2), 1)
    found = right(outputs, targets)
    assert torch.equal(found, theirs == data.train.inputs.sum(dim=1))
    assert 0 < found.double().mean() < 1
    assert right(targets, targets).all()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_symbols": 0}, "n_symbols must be"),
        ({"combine": "concatenate"}, "combine must be one of add, multiply"),
        ({"combine": "multiply", "d_embed": 8}, "d_embed must be a square number"),
        ({"embed_range": 0}, "embed_range must be a number > 0"),
        ({"scale": -1}, "scale must be a number > 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        EmbeddingDecoder(**arguments)
