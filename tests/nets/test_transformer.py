import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from grokscope.nets import OneLayerTransformer
from grokscope.nets.transformer import softmax1

SOFTMAXES = ("softmax", "softmax1")


def small(softmax: str = "softmax", modulus: int = 7, context: int = 3) -> OneLayerTransformer:
    net = OneLayerTransformer(modulus + 1, context, 12, 3, 5, 20, softmax, seed=1).double()
    with torch.no_grad():  # so that the biases count
        for bias in (net.mlp.up.bias, net.mlp.down.bias):
            bias.copy_(torch.linspace(-0.5, 0.7, len(bias)))
    return net


def all_tuples(modulus: int, terms: int = 2) -> Tensor:
    rows = [(*pair, modulus) for pair in itertools.product(range(modulus), repeat=terms)]
    return torch.tensor(rows)


def gradients(net: torch.nn.Module, logits: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    net.zero_grad()
    (weights * logits.sin()).sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def assert_shared_equals_plain(net: OneLayerTransformer, inputs: Tensor) -> None:
    plan = net.share(inputs)
    assert plan is not None
    plain, shared = net(inputs), net.forward_shared(plan)
    torch.testing.assert_close(shared, plain, rtol=1e-12, atol=1e-12)
    expected, got = gradients(net, plain), gradients(net, shared)
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm() / gradient.norm()
        assert error < 1e-12, name


def slow_logits(net: OneLayerTransformer, tokens: list[int]) -> Tensor:
    """The published formula for one sample, head by head."""
    attention, last = net.attention, len(tokens) - 1
    w = {name: p.detach() for name, p in net.named_parameters()}
    x = [w["embed.weight"][t] + w["position.weight"][i] for i, t in enumerate(tokens)]
    stream = x[last].clone()
    for h in range(attention.n_heads):
        head = slice(h * attention.d_head, (h + 1) * attention.d_head)
        query = w["attention.query.weight"][head] @ x[last]
        scores = [
            (w["attention.key.weight"][head] @ row) @ query / math.sqrt(attention.d_head)
            for row in x
        ]
        total = sum(s.exp() for s in scores) + (attention.softmax == "softmax1")
        for score, row in zip(scores, x, strict=True):
            value = w["attention.value.weight"][head] @ row
            stream += score.exp() / total * (w["attention.output.weight"][:, head] @ value)
    hidden = (w["mlp.up.weight"] @ stream + w["mlp.up.bias"]).clamp(min=0)
    stream = stream + w["mlp.down.weight"] @ hidden + w["mlp.down.bias"]
    return w["unembed.weight"] @ stream


def test_published_size_has_226816_parameters():
    assert sum(p.numel() for p in OneLayerTransformer(seed=0).parameters()) == 226_816


def test_weights_are_drawn_with_the_published_variances():
    net = OneLayerTransformer(seed=3)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            variance = 1 / 114 if name == "unembed.weight" else 1 / 128
            ratio = parameter.square().mean() / variance
            assert abs(ratio - 1) < 6 * math.sqrt(2 / parameter.numel()), name
            assert abs(parameter.mean()) < 6 * math.sqrt(variance / parameter.numel()), name


def test_sum_of_squares_at_the_start_is_near_1781():
    total = sum(p.detach().square().sum() for p in OneLayerTransformer(seed=0).parameters())
    assert abs(total - 1781) < 30


def test_a_seed_gives_the_same_net_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (OneLayerTransformer(8, seed=s).embed.weight for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_seed_the_global_generator_decides():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = OneLayerTransformer(8)
    assert torch.equal(net.unembed.weight, OneLayerTransformer(8, seed=5).unembed.weight)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_forward_follows_the_formula(softmax):
    net, inputs = small(softmax), all_tuples(7)
    expected = torch.stack([slow_logits(net, row.tolist()) for row in inputs])
    torch.testing.assert_close(net(inputs), expected, rtol=1e-12, atol=1e-12)


def test_forward_follows_the_formula_when_the_last_token_varies():
    net, inputs = small(), torch.tensor([[0, 1, 2], [3, 3, 7], [7, 2, 0]])
    expected = torch.stack([slow_logits(net, row.tolist()) for row in inputs])
    torch.testing.assert_close(net(inputs), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_one_sample_without_a_batch_works_under_vmap(softmax):
    net, inputs = small(softmax), all_tuples(7)
    torch.testing.assert_close(torch.func.vmap(net)(inputs), net(inputs))


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("modulus", [2, 5, 11])
def test_shared_forward_has_the_same_values_and_gradients(softmax, modulus):
    assert_shared_equals_plain(small(softmax, modulus), all_tuples(modulus))


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("n", [1, 2, 20])
def test_shared_forward_takes_any_subset_in_any_order(softmax, n):
    order = torch.randperm(49, generator=torch.Generator().manual_seed(n))
    assert_shared_equals_plain(small(softmax), all_tuples(7)[order[:n]])


def test_shared_forward_takes_repeated_samples():
    assert_shared_equals_plain(small(), all_tuples(7)[[3, 3, 40, 3]])


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("terms", [1, 3])
def test_shared_forward_takes_any_number_of_terms(softmax, terms):
    assert_shared_equals_plain(small(softmax, 4, terms + 1), all_tuples(4, terms))


def test_shared_forward_matches_at_the_published_size():
    net = OneLayerTransformer(seed=0).double()
    order = torch.randperm(113 * 113, generator=torch.Generator().manual_seed(0))
    assert_shared_equals_plain(net, all_tuples(113)[order[:300]])


def test_a_plan_follows_the_parameters():
    net, inputs = small(), all_tuples(7)
    plan = net.share(inputs)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(net.forward_shared(plan), net(inputs), rtol=1e-12, atol=1e-12)


def test_shared_forward_is_bit_equal_when_run_twice():
    net, inputs = OneLayerTransformer(seed=0), all_tuples(113)[::3]
    runs = []
    for _ in range(2):
        logits = net.forward_shared(net.share(inputs))
        runs.append({"logits": logits.detach(), **gradients(net, logits)})
    for name, tensor in runs[0].items():
        assert torch.equal(tensor, runs[1][name]), name


def test_shared_forward_keeps_float32():
    net = OneLayerTransformer(8, seed=0)
    inputs = all_tuples(7)
    shared = net.forward_shared(net.share(inputs))
    assert shared.dtype == torch.float32
    torch.testing.assert_close(shared, net(inputs), rtol=1e-4, atol=1e-5)


def test_nothing_is_shared_when_the_last_token_varies():
    assert small().share(torch.tensor([[0, 1, 7], [0, 1, 2]])) is None


def test_nothing_is_shared_without_samples():
    assert small().share(torch.empty(0, 3, dtype=torch.int64)) is None


def test_softmax1_equals_its_definition():
    scores = torch.linspace(-3, 4, 12, dtype=torch.float64).view(3, 4)
    for dim in (0, 1):
        expected = scores.exp() / (1 + scores.exp().sum(dim, keepdim=True))
        torch.testing.assert_close(softmax1(scores, dim), expected, rtol=1e-14, atol=0)


def test_softmax1_weights_sum_to_less_than_one_and_vanish_for_low_scores():
    assert (softmax1(torch.tensor([[-1.0, 0.0, 2.0]]), 1).sum(1) < 1).all()
    assert softmax1(torch.full((1, 3), -200.0), 1).sum() < 1e-30


def test_softmax1_is_stable_at_large_scores():
    scores = torch.tensor([[1e4, 1e4 - 1.0], [-1e4, 1e4]], requires_grad=True)
    weights = softmax1(scores, 1)
    torch.testing.assert_close(weights, scores.softmax(1))
    weights.square().sum().backward()
    assert scores.grad.isfinite().all()


def test_attention_is_the_last_row_of_causal_attention(generator):
    attention = small("softmax").attention
    x = torch.randn(5, 3, 12, dtype=torch.float64, generator=generator)
    query, key, value = (
        f(x).view(5, 3, attention.n_heads, -1).transpose(1, 2)
        for f in (attention.query, attention.key, attention.value)
    )
    heads = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    expected = attention.output(heads.transpose(1, 2).flatten(2))[:, -1]
    torch.testing.assert_close(attention(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tokens": 0}, "n_tokens must be an integer >= 1"),
        ({"context": 1}, "context must be an integer >= 2"),
        ({"d_model": 1.5}, "d_model must be an integer"),
        ({"n_heads": 0}, "n_heads must be"),
        ({"d_head": -1}, "d_head must be"),
        ({"d_mlp": "512"}, "d_mlp must be"),
        ({"softmax": "sparsemax"}, "softmax must be one of softmax, softmax1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OneLayerTransformer(**arguments)


@pytest.mark.refusal
@pytest.mark.parametrize("method", ["forward", "share"])
@pytest.mark.parametrize("inputs", [torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, 3)])
def test_inputs_that_are_not_tokens_are_refused(method, inputs):
    with pytest.raises(ValueError, match=r"inputs must be \(n, 3\) tokens of int64"):
        getattr(small(), method)(inputs)


def authors_net(weights: dict[str, np.ndarray]) -> OneLayerTransformer:
    """Weights under the authors' names, heads concatenated."""
    block = "blocks.0"
    by_name = {
        "embed.weight": weights["embed.W_E"].T,
        "position.weight": weights["pos_embed.W_pos"],
        "attention.output.weight": weights[f"{block}.attn.W_O"],
        "mlp.up.weight": weights[f"{block}.mlp.W_in"],
        "mlp.up.bias": weights[f"{block}.mlp.b_in"],
        "mlp.down.weight": weights[f"{block}.mlp.W_out"],
        "mlp.down.bias": weights[f"{block}.mlp.b_out"],
        "unembed.weight": weights["unembed.W_U"].T,
    }
    for name, key in (("query", "W_Q"), ("key", "W_K"), ("value", "W_V")):
        by_name[f"attention.{name}.weight"] = weights[f"{block}.attn.{key}"].reshape(64, 64)
    net = OneLayerTransformer(n_tokens=60, d_model=64, n_heads=4, d_head=16, d_mlp=256).double()
    net.load_state_dict({name: torch.tensor(w).double() for name, w in by_name.items()})
    return net


@pytest.mark.parametrize(("fast", "epochs"), [(True, 30), (False, 5)])
def test_training_follows_the_authors_code(shared: Path, fast: bool, epochs: int):
    reference = shared / "reference" / "nanda"
    weights = dict(np.load(reference / "p59-init.npz"))
    rows = json.loads((reference / "p59-training.json").read_text())["float64"]["rows"]
    net = authors_net(weights)
    inputs, targets, plans = {}, {}, {}
    for split in ("train", "test"):
        pairs = torch.tensor(weights[f"{split}_pairs"], dtype=torch.int64)
        inputs[split] = F.pad(pairs, (0, 1), value=59)
        targets[split] = pairs.sum(1) % 59
        plans[split] = net.share(inputs[split])

    def loss(split: str) -> Tensor:
        logits = net.forward_shared(plans[split]) if fast else net(inputs[split])
        return F.cross_entropy(logits, targets[split])

    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, (0.9, 0.98), 1e-8, 1.0)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 10, 1))
    for epoch, train_loss, test_loss, gradient_norm, _, sum_of_squares in rows[:epochs]:
        squares = sum(p.detach().square().sum() for p in net.parameters())
        with torch.no_grad():
            test = loss("test")
        optimizer.zero_grad()
        train = loss("train")
        train.backward()
        norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
        got = [train.item(), norm.item(), squares.item()]
        expected = [train_loss, gradient_norm, sum_of_squares]
        if test_loss is not None:  # later on it is recorded at some epochs only
            got, expected = [*got, test.item()], [*expected, test_loss]
        assert got == pytest.approx(expected, rel=1e-8), f"epoch {epoch}"
        optimizer.step()
        warm_up.step()
