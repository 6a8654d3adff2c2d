"""The GPT-2 shaped net against Hugging Face's numbers and an independent slow form."""

from __future__ import annotations

import math

import pytest
import torch

from grokscope.gradients import capture
from grokscope.models.sequence_losses import TargetCrossEntropy
from grokscope.nets import GPT2

TOKENS = torch.arange(24).reshape(4, 6) * 7 % 23


def filled(passes: int = 1) -> GPT2:
    """Three layers in float64, every entry from a formula that any program can follow."""
    net = GPT2(23, 11, 24, 3, 4, passes=passes).double().eval()
    with torch.no_grad():
        for i, (name, parameter) in enumerate(net.named_parameters()):
            k = torch.arange(parameter.numel(), dtype=torch.float64)
            values = 0.3 * torch.sin(1.7 * k + 0.9 * i) + 0.1 * torch.cos(0.37 * k * (i + 1))
            gain = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(values.reshape(parameter.shape) + gain)
    return net


def test_logits_are_those_of_hugging_face() -> None:
    """``GPT2LMHeadModel`` of transformers 4.49.0, these weights; differences below 2e-15."""
    logits = filled()(TOKENS)
    reference = [-1.757967467355, 1.785368261733, -1.699982560879, 1.518655468627]
    torch.testing.assert_close(
        logits[2, 5, :4], torch.tensor(reference, dtype=torch.float64), rtol=0, atol=1e-11
    )
    assert logits.abs().sum().item() == pytest.approx(571.0478055299301, rel=1e-12)
    assert logits[0, 0, 3].item() == pytest.approx(1.2739087884195506, rel=1e-12)
    assert logits[3, 5, 22].item() == pytest.approx(-0.5498835885657305, rel=1e-12)


def test_loss_and_gradient_are_those_of_hugging_face() -> None:
    """With labels -100 but for two tokens of each sequence; there the loss is in float32."""
    net, targets = filled(), torch.full_like(TOKENS, -100)
    targets[:, 3:5] = TOKENS[:, 4:6]
    loss = TargetCrossEntropy().mean(net(TOKENS), targets)
    loss.backward()
    assert loss.item() == pytest.approx(4.112957954406738, abs=2e-7)
    assert net.embed.weight.grad.norm().item() == pytest.approx(1.916327210917505, rel=1e-7)


def slow(net: GPT2, tokens: list[int], layers: list[int]) -> torch.Tensor:
    """Token by token and head by head."""
    w = dict(net.named_parameters())
    d = net.embed.weight.shape[1]
    x = torch.stack([w["embed.weight"][t] + w["position.weight"][i] for i, t in enumerate(tokens)])

    def norm(v, name):
        centred = v - v.mean()
        return (
            centred / (centred.square().mean() + 1e-5).sqrt() * w[name + ".weight"]
            + (w[name + ".bias"])
        )

    def linear(v, name):
        return w[name + ".weight"] @ v + w[name + ".bias"]

    for layer in layers:
        at = f"blocks.{layer}."
        rows = [linear(norm(v, at + "attention_norm"), at + "attention.input") for v in x]
        added = []
        for i in range(len(tokens)):
            heads = []
            for h in range(net.blocks[0].attention.n_heads):
                size = d // net.blocks[0].attention.n_heads
                part = slice(h * size, (h + 1) * size)
                q = rows[i][:d][part]
                scores = [q @ rows[j][d : 2 * d][part] / math.sqrt(size) for j in range(i + 1)]
                total = sum(s.exp() for s in scores)
                weights = [s.exp() / total for s in scores]
                heads.append(sum(p * rows[j][2 * d :][part] for j, p in enumerate(weights)))
            added.append(linear(torch.cat(heads), at + "attention.output"))
        x = x + torch.stack(added)
        out = []
        for v in x:
            u = linear(norm(v, at + "mlp_norm"), at + "up")
            gelu = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
            out.append(v + linear(gelu, at + "down"))
        x = torch.stack(out)
    return torch.stack([w["embed.weight"] @ norm(v, "norm") for v in x])


@pytest.mark.parametrize(("passes", "layers"), [(1, [0, 1, 2]), (2, [0, 1, 2, 0, 1, 2])])
def test_forward_follows_the_formula_also_with_shared_layers(passes: int, layers) -> None:
    net = filled(passes)
    expected = torch.stack([slow(net, row.tolist(), layers) for row in TOKENS[:2]])
    torch.testing.assert_close(net(TOKENS[:2]), expected, rtol=1e-11, atol=1e-11)
    assert [net.blocks[i] for i in layers] == net.layers


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 59_185_152),  # the same count from GPT2LMHeadModel
        ({"n_tokens": 52_464}, 97_783_296),  # as released: 97.8 M
        ({"n_tokens": 51_368}, 96_941_568),
        ({"n_layers": 4, "passes": 2}, 59_185_152 - 4 * 7_087_872),
    ],
)
def test_published_sizes(settings: dict, parameters: int) -> None:
    net = GPT2(**settings)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(p.numel() for p in net.blocks[0].parameters()) == 7_087_872


def test_weights_are_drawn_as_hugging_face_draws_them() -> None:
    """N(0, 0.02^2); what writes to the stream N(0, 0.02^2 / 16); gains 1, biases 0."""
    net = GPT2(500, 64, 96, 8, 4, seed=3)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            std = 0.005 if name.endswith(("output.weight", "down.weight")) else 0.02
            ratio = parameter.square().mean() / std**2
            assert abs(ratio - 1) < 6 * math.sqrt(2 / parameter.numel()), name


def test_later_tokens_and_padding_change_nothing_before_them() -> None:
    net, changed = filled(), TOKENS.clone()
    changed[:, 4:] = 0
    assert torch.equal(net(TOKENS)[:, :4], net(changed)[:, :4])
    torch.testing.assert_close(net(TOKENS[:, :4]), net(TOKENS)[:, :4], rtol=1e-12, atol=1e-12)


def test_a_seed_gives_the_same_net_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (GPT2(9, 4, 8, 1, 2, seed=s).embed.weight for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_acts_in_training_only_and_in_all_four_places() -> None:
    net = GPT2(23, 8, 24, 2, 4, dropout=0.5, seed=0)
    assert not torch.equal(net(TOKENS), net(TOKENS))
    net.dropout.p = 0.0
    assert not torch.equal(net(TOKENS), net(TOKENS))
    for block in net.blocks:
        block.dropout.p = 0.0
    assert not torch.equal(net(TOKENS), net(TOKENS))  # attention patterns
    for block in net.blocks:
        block.attention.dropout = 0.0
    assert torch.equal(net(TOKENS), net(TOKENS))
    assert torch.equal(net.train()(TOKENS), net.eval()(TOKENS))


@pytest.mark.parametrize("passes", [1, 2])
def test_per_sample_gradients_add_up_with_tied_and_shared_weights(passes: int) -> None:
    net, targets = filled(passes), torch.full_like(TOKENS, -100)
    targets[:, 3:5] = TOKENS[:, 4:6]
    loss = TargetCrossEntropy()
    factors = capture(net, loss, TOKENS, targets)
    rows = []
    for i in range(len(TOKENS)):
        net.zero_grad()
        loss(net(TOKENS[i : i + 1]), targets[i : i + 1]).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    gradients = torch.stack(rows)
    torch.testing.assert_close(factors.gram(), gradients @ gradients.T, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore")  # what torch.compile itself loads
def test_a_compiled_net_equals_the_plain_one() -> None:
    plain, compiled = (GPT2(9, 4, 8, 1, 2, dropout=0.0, compile=c, seed=0) for c in (False, True))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    tokens = TOKENS[:, :4] % 9
    torch.testing.assert_close(plain(tokens), compiled(tokens))
    targets = torch.full_like(tokens, -100)
    targets[:, 1:3] = tokens[:, 2:]
    loss = TargetCrossEntropy()
    grams = [capture(net, loss, tokens, targets).gram() for net in (plain, compiled)]
    torch.testing.assert_close(*grams)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_tokens": 0}, "n_tokens must be an integer >= 1, got 0"),
        ({"context": 0}, "context must be an integer >= 1, got 0"),
        ({"n_layers": 0}, "n_layers must be an integer >= 1, got 0"),
        ({"d_model": 10, "n_heads": 4}, "d_model must be a multiple of n_heads=4, got 10"),
        ({"d_mlp": 0}, "d_mlp must be an integer >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be a number >= 0 and < 1, got 1.0"),
        ({"passes": 0}, "passes must be an integer >= 1, got 0"),
        ({"compile": 1}, "compile must be true or false, got 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    small = {"n_tokens": 4, "context": 4, "d_model": 8, "n_layers": 1, "n_heads": 2}
    with pytest.raises(ValueError, match=message):
        GPT2(**(small | settings))


@pytest.mark.refusal
@pytest.mark.parametrize("inputs", [torch.zeros(2, 5).long(), torch.zeros(2, 4), torch.tensor(0)])
def test_other_inputs_are_refused(inputs: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="inputs must be \\(n, at most 4\\) tokens of int64"):
        GPT2(4, 4, 8, 1, 2)(inputs)
