"""The decoder against a second implementation of the published one, head by head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.nets import DecoderTransformer
from grokscope.nets.decoder import sinusoids


def small(**settings):
    made = {"n_tokens": 11, "d_model": 12, "n_heads": 3, "seed": 1, **settings}
    return DecoderTransformer(**made).double()


def tokens(n=5, context=6, n_tokens=11):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(n_tokens, (n, context), generator=generator)


def randomised(net):
    """Gains and shifts of the normalisations count too."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return net


def slow_logits(net, sequence, hidden=torch.relu):
    """All positions of one sequence, as openai/grok:grok/transformer.py computes them."""
    w = dict(net.named_parameters())
    d, heads = net.embed.embedding_dim, net.blocks[0].attention.n_heads
    x = w["embed.weight"][sequence] + net.positions[: len(sequence)]
    mask = torch.ones(len(sequence), len(sequence)).tril()
    for i in range(len(net.blocks)):
        name, results, size = f"blocks.{i}", [], d // heads
        for h in range(heads):
            rows = slice(h * size, (h + 1) * size)
            q, k, v = (
                x @ w[f"{name}.attention.{m}.weight"][rows].T for m in ("query", "key", "value")
            )
            scores = (q @ k.T / math.sqrt(size)).masked_fill(mask == 0, float("-inf"))
            results.append(torch.softmax(scores, -1) @ v)
        attended = torch.cat(results, -1) @ w[f"{name}.attention.output.weight"].T
        gains = [
            w[f"{name}.{norm}.{p}"]
            for norm in ("attention_norm", "norm")
            for p in ("weight", "bias")
        ]
        x = F.layer_norm(x + attended, (d,), *gains[:2])
        up, down = w[f"{name}.up.weight"], w[f"{name}.down.weight"]
        x = F.layer_norm(x + hidden(x @ up.T) @ down.T, (d,), *gains[2:])
    return x @ w["unembed.weight"].T


def test_the_published_size_has_455424_parameters():
    net = DecoderTransformer(seed=0)
    assert sum(p.numel() for p in net.parameters()) == 455_424
    assert sum(p.numel() for p in net.blocks.parameters()) == 394_240
    assert not any("bias" in name and "norm" not in name for name, _ in net.named_parameters())


@pytest.mark.parametrize(("hidden", "function"), [("relu", torch.relu), ("gelu", F.gelu)])
@pytest.mark.parametrize(("context", "n_answers"), [(6, 2), (6, 6), (2, 2), (9, 4)])
def test_logits_follow_the_published_formula(hidden, function, context, n_answers):
    net = randomised(small(hidden=hidden, n_answers=n_answers, n_layers=3))
    inputs = tokens(context=context)
    expected = torch.stack([slow_logits(net, row, function)[-n_answers:] for row in inputs])
    torch.testing.assert_close(net(inputs), expected, rtol=1e-11, atol=1e-11)


def test_gradients_follow_it_too():
    net, inputs = randomised(small()), tokens()
    slow = torch.stack([slow_logits(net, row)[-2:] for row in inputs])
    parameters = list(net.parameters())
    expected = torch.autograd.grad(slow.sin().sum(), parameters)
    got = torch.autograd.grad(net(inputs).sin().sum(), parameters)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_positions_are_those_of_the_formula():
    found = sinusoids(50, 128)
    for t, i in ((0, 0), (0, 1), (3, 10), (49, 127), (7, 64)):
        angle = t / 10000 ** ((i - i % 2) / 128)
        value = math.cos(angle) if i % 2 else math.sin(angle)
        assert found[t, i].item() == pytest.approx(value, abs=1e-7)


def test_the_answer_is_not_seen_before_it_is_asked():
    net, inputs = small(), tokens()
    changed = inputs.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 11
    before, after = net(inputs), net(changed)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_initial_weights_are_drawn_as_pytorch_does():
    net = DecoderTransformer(seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        embedding = nn.Embedding(239, 128)
    assert torch.equal(net.embed.weight, embedding.weight)
    for name, p in net.named_parameters():
        if "norm" in name:
            assert (p == float(name.endswith("weight"))).all()
        elif name != "embed.weight":
            bound = p.shape[1] ** -0.5
            assert p.abs().max() <= bound
            assert p.abs().max() > 0.99 * bound


def test_a_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (small(seed=s).unembed.weight for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_weight_noise_is_fresh_in_training_and_off_in_evaluation():
    net, quiet, inputs = small(weight_noise=0.1), small(), tokens()
    torch.manual_seed(0)
    first, second = net(inputs), net(inputs)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(net(inputs), first)
    assert torch.equal(net.eval()(inputs), quiet.eval()(inputs))
    assert net.state_dict().keys() == quiet.state_dict().keys()


def test_weight_noise_is_added_to_every_parameter_with_its_own_numbers():
    net, inputs = small(weight_noise=0.1), tokens()
    torch.manual_seed(0)
    noisy = net(inputs)
    noisy.sin().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    torch.manual_seed(0)
    moved = small()
    with torch.no_grad():
        for p in moved.parameters():
            p.add_(0.1 * torch.randn_like(p))
    expected = moved(inputs)
    assert torch.equal(expected, noisy)
    expected.sin().sum().backward()
    for gradient, p in zip(gradients, moved.parameters(), strict=True):
        assert torch.equal(gradient, p.grad)


def test_dropout_acts_on_the_feed_forward_output_only():
    net, inputs = small(dropout=0.5), tokens()
    counted = []
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda m, x, y: counted.append(y.shape))
    net(inputs)
    assert counted == [(5, 6, 12), (5, 2, 12)]
    assert torch.equal(net.eval()(inputs), small()(inputs))


def test_logits_of_a_unit_head_are_cosines():
    net, inputs = small(unit_head=True), tokens()
    features, rows = net.features(inputs), net.unembed.weight
    expected = F.cosine_similarity(features[:, :, None], rows, dim=-1)
    torch.testing.assert_close(net(inputs), expected, rtol=1e-12, atol=1e-12)


def test_one_sample_without_a_batch_works_under_vmap():
    net, inputs = small(), tokens()
    torch.testing.assert_close(torch.func.vmap(net)(inputs), net(inputs))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_tokens": 0}, "n_tokens must be an integer >= 1"),
        ({"n_answers": 0}, "n_answers must be an integer >= 1"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"d_model": 10}, "d_model must be a multiple of 3 heads, got 10"),
        ({"d_ff": 0}, "d_ff must be"),
        ({"hidden": "tanh"}, "hidden must be one of relu, gelu"),
        ({"dropout": 1.0}, "dropout must be a number >= 0 and < 1"),
        ({"weight_noise": -0.1}, "weight_noise must be a number >= 0"),
        ({"unit_head": "yes"}, "unit_head must be true or false"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


@pytest.mark.refusal
@pytest.mark.parametrize("inputs", [torch.zeros(3, 6), tokens(context=1), tokens(context=51)])
def test_inputs_that_are_not_sequences_are_refused(inputs):
    with pytest.raises(ValueError, match=r"inputs must be \(n, 2 to 50\) tokens of int64"):
        small()(inputs)
