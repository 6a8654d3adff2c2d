"""Logit lens and causal tracing on nets whose answers are known, and by an independent route."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.measures.tracing import (
    causal_strength,
    lens_reciprocal_rank,
    patched_logits,
    residual_stream,
    token_ranks,
)
from grokscope.nets import GPT2

V = 6


class Steps:
    """A stream of one-hot rows (n, t, V) that given functions map; it is read as it is."""

    def __init__(self, *layers) -> None:
        self.layers = list(layers)

    def start(self, inputs):
        return torch.nn.functional.one_hot(inputs, V).double()

    def read(self, stream):
        return stream

    def __call__(self, inputs):
        stream = self.start(inputs)
        for layer in self.layers:
            stream = layer(stream)
        return self.read(stream)


def nothing(stream):
    return stream


def write(token: int, size: float = 2.0):
    """Adds a token at position 1."""

    def layer(stream):
        stream = stream.clone()
        stream[:, 1, token] += size
        return stream

    return layer


def fetch(stream):
    """Adds to position 2 what lies at position 0, twice as strong: a second hop."""
    stream = stream.clone()
    stream[:, 2] += 2 * stream[:, 0]
    return stream


INPUTS = torch.tensor([[0, 1, 2], [3, 4, 5], [1, 1, 0]])


def test_a_written_token_is_first_from_its_layer_on() -> None:
    net = Steps(nothing, write(5), nothing)
    rank = lens_reciprocal_rank(net, INPUTS, 1, torch.full((3,), 5))
    # before: one token is larger and five are tied with it: ranks 1 to 5, in the middle 3
    torch.testing.assert_close(rank, torch.tensor([1 / 4, 1 / 4, 1.0, 1.0]))


def test_what_stands_there_is_first_until_something_larger_is_written() -> None:
    net = Steps(nothing, write(5), nothing)
    rank = lens_reciprocal_rank(net, INPUTS, 1, INPUTS[:, 1])
    torch.testing.assert_close(rank, torch.tensor([1.0, 1.0, 0.5, 0.5]))


def test_ranks_count_larger_logits_and_half_of_the_tied_ones() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert token_ranks(logits, torch.tensor([0, 0])).tolist() == [0, 1.5]
    assert token_ranks(logits, torch.tensor([1, 3])).tolist() == [2.5, 1.5]
    assert token_ranks(logits.expand(5, 2, 4), torch.tensor([2, 3])).shape == (5, 2)


def test_the_stream_ends_in_the_logits_of_the_net() -> None:
    net = GPT2(7, 4, 8, 3, 2, passes=2, seed=0).double().eval()
    states = residual_stream(net, INPUTS)
    assert states.shape == (7, 3, 3, 8)
    assert torch.equal(net.read(states[-1]), net(INPUTS))
    assert torch.equal(states[0], net.embed(INPUTS) + net.position.weight[:3])


def perturbed(position: int) -> torch.Tensor:
    others = INPUTS.clone()
    others[:, position] = (INPUTS[:, position] + 1) % V
    return others


def test_strength_is_one_until_the_second_hop_has_fetched_the_state() -> None:
    """The answer at position 2 is the token at position 0, fetched by the third layer."""
    net = Steps(nothing, nothing, fetch, nothing)
    strength = causal_strength(net, INPUTS, perturbed(0), 0, target=2)
    assert strength.tolist() == [1, 1, 1, 0, 0]
    at_target = causal_strength(net, INPUTS, perturbed(0), 2, target=2)
    assert at_target.tolist() == [0, 0, 0, 1, 1]
    assert not causal_strength(net, INPUTS, perturbed(1), 1, target=2).any()


def random_net() -> GPT2:
    net = GPT2(7, 4, 8, 3, 2, seed=1).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(20 if parameter.ndim > 1 else 1)
    return net


def test_patching_everything_is_the_other_run_and_nothing_is_none() -> None:
    net = random_net()
    states, others = residual_stream(net, INPUTS), residual_stream(net, perturbed(1))
    for layer in range(4):
        everything = patched_logits(net, states, others, layer, slice(None))
        torch.testing.assert_close(everything, net(perturbed(1)), rtol=1e-12, atol=1e-12)
        nobody = patched_logits(net, states, others, layer, slice(0, 0))
        torch.testing.assert_close(nobody, net(INPUTS), rtol=1e-12, atol=1e-12)
    assert not causal_strength(net, INPUTS, INPUTS, slice(None), 2).any()
    differ = net(INPUTS)[:, 2].argmax(-1) != net(perturbed(2))[:, 2].argmax(-1)
    share = differ.double().mean().expand(4)
    torch.testing.assert_close(causal_strength(net, INPUTS, perturbed(2), slice(None), 2), share)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_patching_agrees_with_a_hook_on_the_block(layer: int) -> None:
    net = random_net()
    kept = {}
    block = net.blocks[layer - 1]
    hook = block.register_forward_hook(lambda *a: kept.update(state=a[2].clone()))
    net(perturbed(0))
    hook.remove()

    def replace(module: nn.Module, inputs, output):
        output = output.clone()
        output[:, 0] = kept["state"][:, 0]
        return output

    states, others = residual_stream(net, INPUTS), residual_stream(net, perturbed(0))
    hook = block.register_forward_hook(replace)
    expected = net(INPUTS)
    hook.remove()
    found = patched_logits(net, states, others, layer, 0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, net(INPUTS), atol=1e-3)


def test_patching_leaves_the_states_alone() -> None:
    net = random_net()
    states, others = residual_stream(net, INPUTS), residual_stream(net, perturbed(0))
    before = states.clone()
    patched_logits(net, states, others, 1, 0)
    assert torch.equal(states, before)
