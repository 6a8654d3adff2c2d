"""Inside the transformer: sample by sample, and against our net."""

from __future__ import annotations

import numpy as np
import pytest

from grokscope.measures.fourier import activations, attention_fourier, neuron_logit_map
from grokscope.measures.fourier_basis import fourier_basis
from grokscope.measures.nanda_transformer import SHAPES, TransformerWeights


def drawn(p=5, seed=0, d=12, heads=3, d_head=4, m=20):
    rng = np.random.default_rng(seed)
    sizes = {"d": d, "p+1": p + 1, "3": 3, "h": heads, "e": d_head, "h*e": heads * d_head, "m": m}
    return {n: rng.standard_normal([sizes[s] for s in shape]) for n, shape in SHAPES.items()}


def slow(weights, a, b, p):
    """Attention (h, 3), neurons and logits of one input, from the formula."""
    w = {name.split(".")[-1]: weight for name, weight in weights.items()}
    x = np.stack([w["W_E"][:, t] + w["W_pos"][i] for i, t in enumerate((a, b, p))])
    pattern, heads = [], []
    for K, Q, V in zip(w["W_K"], w["W_Q"], w["W_V"], strict=True):
        scores = np.array([(K @ row) @ (Q @ x[2]) for row in x]) / np.sqrt(len(K))
        pattern.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
        heads.append(sum(share * (V @ row) for share, row in zip(pattern[-1], x, strict=True)))
    stream = x[2] + w["W_O"] @ np.concatenate(heads)
    neurons = np.maximum(w["W_in"] @ stream + w["b_in"], 0)
    return np.array(pattern), neurons, (stream + w["W_out"] @ neurons + w["b_out"]) @ w["W_U"]


def test_activations_are_those_of_each_input():
    weights, p = drawn(), 5
    found = activations(weights, p)
    for a in range(p):
        for b in range(p):
            row = a * p + b
            pattern, neurons, logits = slow(weights, a, b, p)
            np.testing.assert_allclose(found.attention[row], pattern, atol=1e-13)
            np.testing.assert_allclose(found.neurons[row], neurons, atol=1e-11)
            np.testing.assert_allclose(found.logits[row], logits, rtol=1e-11, atol=1e-11)


def test_attention_components_are_those_of_the_scores_of_tokens():
    weights, p = drawn(), 5
    E = weights["embed.W_E"]
    query_row = E[:, p] + weights["pos_embed.W_pos"][2]
    found = attention_fourier(weights, p)
    for h in range(3):
        K, Q = weights["blocks.0.attn.W_K"][h], weights["blocks.0.attn.W_Q"][h]
        scores = [(K @ E[:, t]) @ (Q @ query_row) for t in range(p)]
        np.testing.assert_allclose(found[h], fourier_basis(p).numpy() @ scores, atol=1e-11)


def test_neuron_logit_map_is_what_a_neuron_adds_to_the_logits():
    weights, p = drawn(), 5
    W_L = neuron_logit_map(weights["unembed.W_U"][:, :p], weights["blocks.0.mlp.W_out"])
    np.testing.assert_array_equal(W_L, TransformerWeights.of(weights, p).neuron_logit_map)
    more = dict(weights)
    more["blocks.0.mlp.b_in"] = weights["blocks.0.mlp.b_in"] + 1e3 * (np.arange(20) == 4)
    before, after = activations(weights, p), activations(more, p)
    added = (after.neurons - before.neurons)[:, 4:5] * W_L[:, 4]
    np.testing.assert_allclose((after.logits - before.logits)[:, :p], added, rtol=1e-9)


def wrong(name, value):
    weights = drawn()
    if value is None:
        del weights[name]
    else:
        weights[name] = np.ones(value)
    return weights


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("unembed.W_U", None, r"^weights must have embed.W_E, .*; unembed.W_U is missing"),
        ("embed.W_E", (12, 7), r"^weights of embed.W_E must be \(12, 6\), got \(12, 7\)"),
        ("embed.W_E", (6, 12), r"^weights of embed.W_E must be \(12, 6\), got \(6, 12\)"),
        ("pos_embed.W_pos", (4, 12), r"^weights of pos_embed.W_pos must be \(3, 12\)"),
        ("blocks.0.attn.W_Q", (3, 5, 12), r"^weights of blocks.0.attn.W_Q must be \(3, 4, 12\)"),
        ("blocks.0.attn.W_O", (12, 13), r"^weights of blocks.0.attn.W_O must be \(12, 12\)"),
        ("blocks.0.attn.W_K", (12, 12), r"^weights of blocks.0.attn.W_K must be \(h, e, d\)"),
        (
            "blocks.0.mlp.b_in",
            (21,),
            r"^weights of blocks.0.mlp.b_in must be \(20,\), got \(21,\)",
        ),
        ("blocks.0.mlp.W_out", (20, 12), r"^weights of blocks.0.mlp.W_out must be \(12, 20\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name, value, reason):
    with pytest.raises(ValueError, match=reason):
        activations(wrong(name, value), 5)


@pytest.mark.refusal
def test_matrices_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^unembedding must be \(d, p\) and down \(d, m\), got"):
        neuron_logit_map(np.ones((3, 5)), np.ones((4, 6)))
    with pytest.raises(ValueError, match=r"^modulus must be odd, got 4"):
        attention_fourier(drawn(), 4)
