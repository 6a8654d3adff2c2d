"""The nets of the ticket study: sizes, definitions, and the shared forward pass."""

from __future__ import annotations

import math

import pytest
import torch

from grokscope.nets import BareTransformer, SummedEmbeddingMLP

PAIRS = torch.triu_indices(11, 11).t()


def test_they_have_the_published_number_of_parameters():
    sizes = [
        sum(p.numel() for p in net.parameters())
        for net in (SummedEmbeddingMLP(), BareTransformer())
    ]
    assert sizes == [115_000, 115_456]


def test_the_mlp_is_its_formula_and_blind_to_the_order():
    net = SummedEmbeddingMLP(11, 20, 8, seed=0).double()
    E, W_in, W_out, U = (p.detach() for p in net.parameters())
    hidden = torch.relu((E[PAIRS[:, 0]] + E[PAIRS[:, 1]]) @ W_in.T)
    torch.testing.assert_close(net(PAIRS), hidden @ W_out.T @ U.T)
    assert torch.equal(net(PAIRS), net(PAIRS.flip(1)))


def test_shared_forward_has_the_same_values_and_gradients():
    net = SummedEmbeddingMLP(11, 20, 8, seed=0).double()
    shared, plain = net.forward_shared(net.share(PAIRS)), net(PAIRS)
    torch.testing.assert_close(shared, plain, rtol=1e-12, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(f.sin().sum(), list(net.parameters())) for f in (shared, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_the_transformer_is_the_released_formula():
    """Twin of the released einsums: one head, causal, read at the last of two tokens."""
    net = BareTransformer(11, 2, 16, 1, 16, 12, seed=0).double()
    x = net.embed.weight[PAIRS]
    q, k, v = (f(x) for f in (net.attention.query, net.attention.key, net.attention.value))
    pattern = torch.softmax((q[:, 1:] * k).sum(-1) / math.sqrt(16), -1)
    last = x[:, 1] + net.attention.output((pattern[..., None] * v).sum(1))
    last = last + net.down(torch.relu(net.up(last)))
    torch.testing.assert_close(net(PAIRS), net.unembed(last))


@pytest.mark.parametrize(
    ("net", "stds"),
    [
        (
            SummedEmbeddingMLP(67, scale=2.0, seed=0),
            {
                "embed": 2 / 67**0.5,
                "hidden": 2 / 500**0.5,
                "output": 2 / 48**0.5,
                "unembed": 2 / 500**0.5,
            },
        ),
        (
            BareTransformer(67, seed=0),
            {
                "embed": 67**-0.5,
                "attention.key": 128**-0.5,
                "down": 128**-0.5,
                "unembed": 128**-0.5,
            },
        ),
    ],
    ids=["mlp", "transformer"],
)
def test_weights_have_their_published_spread(net, stds):
    for name, std in stds.items():
        weight = net.get_submodule(name).weight
        n = weight.numel()
        assert abs(float(weight.detach().square().mean()) / std**2 - 1) < 6 * math.sqrt(2 / n), (
            name
        )


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: SummedEmbeddingMLP(d_hidden=0), "d_hidden must be an integer >= 1"),
        (lambda: SummedEmbeddingMLP(scale=0.0), "scale must be a number > 0"),
        (lambda: BareTransformer(context=1), "context must be an integer >= 2"),
        (
            lambda: BareTransformer(5)(torch.zeros(3, 3, dtype=torch.int64)),
            r"inputs must be \(n, 2\)",
        ),
        (
            lambda: SummedEmbeddingMLP(5)(torch.zeros(3, 2)),
            r"inputs must be \(n, k\) tokens of int64",
        ),
    ],
)
def test_bad_arguments_are_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
