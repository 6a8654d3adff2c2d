"""The recurrent classifier beside its equations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.nets import LastStateLSTM


def small(**settings):
    return LastStateLSTM(12, 4, 5, 2, seed=0, **settings).double()


def by_hand(net, tokens):
    """Gates written out, one position and one layer at a time."""
    sequence = net.embedding.weight[tokens]
    for layer in range(2):
        w, u, b, c = (getattr(net.lstm, f"{kind}_l{layer}") for kind in KINDS)
        h = cell = torch.zeros(5, dtype=torch.float64)
        states = []
        for x in sequence:
            i, f, g, o = (w @ x + b + u @ h + c).chunk(4)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            h = o.sigmoid() * cell.tanh()
            states.append(h)
        sequence = torch.stack(states)
    return net.head(sequence[-1])


KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_outputs_are_those_of_the_equations():
    net, tokens = small(scale=2.0), torch.tensor([[0, 0, 3, 7, 1], [5, 5, 11, 2, 4]])
    wanted = torch.stack([by_hand(net, row) for row in tokens])
    torch.testing.assert_close(net(tokens), wanted, rtol=1e-12, atol=1e-12)


def test_batches_do_not_see_each_other():
    net, tokens = small(), torch.randint(0, 12, (6, 9))
    first = net(tokens)
    torch.testing.assert_close(net(tokens[2:4]), first[2:4])
    assert torch.equal(net(tokens), first)


def test_it_is_drawn_as_torch_draws_and_leaves_the_global_state_alone():
    torch.manual_seed(9)
    parts = [nn.Embedding(12, 4), nn.LSTM(4, 5, 2, batch_first=True), nn.Linear(5, 1)]
    state = torch.get_rng_state()
    net = LastStateLSTM(12, 4, 5, 2, scale=6.0, seed=9)
    assert torch.equal(torch.get_rng_state(), state)
    theirs = [p for part in parts for p in part.parameters()]
    for ours, plain in zip(net.parameters(), theirs, strict=True):
        torch.testing.assert_close(ours, 6 * plain)


def test_it_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in LastStateLSTM().parameters()) == 920_385


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["n_tokens", "d_embed", "d_hidden", "n_layers", "d_out"])
def test_wrong_arguments_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be an integer >= 1"):
        LastStateLSTM(**{name: 0})
