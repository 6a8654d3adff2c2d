"""All measures of the transformer against the authors' code, and what they mean by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from grokscope.measures.fourier import (
    dominant_frequencies,
    explained_variance,
    fourier_norm_map,
    key_frequencies,
    logit_measures,
    nanda_measures,
    neuron_frequencies,
)
from grokscope.measures.nanda_transformer import SHAPES, activations

CASES = ("p113-grokked", "p113-authors-wd0.1", "p59-memorised")


def drawn(p=7, seed=0, d=12, heads=3, d_head=5, m=20):
    rng = np.random.default_rng(seed)
    sizes = {"d": d, "p+1": p + 1, "3": 3, "h": heads, "e": d_head, "h*e": heads * d_head, "m": m}
    return {n: rng.standard_normal([sizes[s] for s in shape]) for n, shape in SHAPES.items()}


def mask_of(p=7, seed=1):
    return np.random.default_rng(seed).random(p * p) < 0.4


@pytest.fixture
def reference(shared):
    def load(name):
        folder = shared / "reference" / "nanda"
        if not (folder / f"{name}.json").exists():
            pytest.skip(f"needs the reference numbers {name}.json of Nanda et al.")
        return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz")

    return load


def flat(values):
    """Name -> value; variants of one measure as ``name/variant``."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict) and "value" not in value:
            found |= {f"{name}/{variant}": each for variant, each in value.items()}
        else:
            found[name] = value
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_measure_agrees_with_the_authors_code(reference, case):
    """To 1e-8 of the largest entry; losses below 1e-6 to 1e-6."""
    expected, weights = reference(case)
    p = expected["config"]["p"]
    found = flat(nanda_measures(weights, p, weights["train_mask"]))
    wanted = {name: np.array(entry["value"]) for name, entry in flat(expected["values"]).items()}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        rel = 1e-6 if "loss" in name and value.ndim == 0 and value < 1e-6 else 1e-8
        assert np.shape(found[name]) == value.shape, name
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=rel * np.abs(value).max(), err_msg=name
        )
        if "loss" in name:
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_neurons_logits_and_their_map_agree_with_the_authors_code(reference, case):
    expected, weights = reference(case)
    p = expected["config"]["p"]
    found = activations(weights, p)
    explained = explained_variance(found.neurons)
    assert neuron_frequencies(explained).tolist() == expected["neuron_freq"]
    assert key_frequencies(explained) == expected["key_freqs_of_this_model_by_notebook_rule"]
    at_least = neuron_frequencies(explained)[explained.amax(0) >= 0.85].tolist()
    counts = expected["neuron_freq_counts_frac_ge_0_85"]
    assert {str(k): at_least.count(k) for k in sorted(set(at_least))} == counts
    for pair, logits in expected["logits_first8"].items():
        a, b = map(int, pair.split(","))
        np.testing.assert_allclose(found.logits[a * p + b, :8], logits, rtol=1e-9, atol=1e-9)
    norms = fourier_norm_map(found.logits[:, :p])
    shown = weights["logit_fourier_norm_map"]
    np.testing.assert_allclose(norms, shown, rtol=1e-4, atol=1e-6 * shown.max())


def test_initial_losses_and_norm_are_those_of_the_authors_training(reference, shared):
    training = json.loads((shared / "reference" / "nanda" / "p59-training.json").read_text())
    _, train, test, *_, squares = training["float64"]["rows"][0]
    weights = np.load(shared / "reference" / "nanda" / "p59-init.npz")
    mask = np.zeros(59**2, bool)
    mask[weights["train_pairs"].astype(int) @ [59, 1]] = True
    found = nanda_measures(weights, 59, mask, [1])
    assert found["loss_train_with_eq_logit"] == pytest.approx(train, rel=1e-9)
    assert found["loss_test_with_eq_logit"] == pytest.approx(test, rel=1e-9)
    assert found["sum_sq_weights_total"] == pytest.approx(squares, rel=1e-9)


def test_options_leave_out_the_stray_frequencies_of_the_authors_net(reference):
    _, weights = reference("p113-authors-wd0.1")
    explained = explained_variance(activations(weights, 113).neurons)
    assert len(key_frequencies(explained)) == 10
    assert key_frequencies(explained, minimum_count=50) == [6, 23, 37, 39, 41]
    assert key_frequencies(explained, minimum_explained=0.85) == [6, 23, 37, 39, 41]


def test_logits_alone_show_the_key_frequencies_of_a_grokked_net(reference):
    expected, weights = reference("p113-grokked")
    logits = activations(weights, 113).logits[:, :113]
    assert dominant_frequencies(logits) == expected["key_freqs"]


def test_tensors_and_single_precision_are_taken_and_left_alone():
    weights = {n: torch.tensor(w, dtype=torch.float32) for n, w in drawn().items()}
    before = {n: w.clone() for n, w in weights.items()}
    found = flat(nanda_measures(weights, 7, torch.tensor(mask_of()), [1, 3]))
    double = {n: w.double().numpy() for n, w in weights.items()}
    for name, value in flat(nanda_measures(double, 7, mask_of(), [1, 3])).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert all(torch.equal(before[n], w) for n, w in weights.items())


def test_logit_measures_are_those_of_the_whole_and_need_no_equals_class():
    weights, mask = drawn(), mask_of()
    whole = nanda_measures(weights, 7, mask, [2])
    logits = activations(weights, 7).logits
    found = logit_measures(logits, mask, [2])
    assert found.keys() < whole.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    without = logit_measures(logits[:, :7], mask, [2])
    assert found.keys() - without.keys() == {"loss_train_with_eq_logit", "loss_test_with_eq_logit"}


def test_renaming_the_residues_by_a_unit_permutes_the_frequencies():
    """a -> 2 a maps frequency k to k / 2: measures by frequency are the same, in another order."""
    p, mask = 7, mask_of()
    weights = drawn(p)
    n = np.arange(p)
    a, b = np.divmod(np.arange(p * p), p)
    permuted = dict(weights)
    for name in ("embed.W_E", "unembed.W_U"):
        permuted[name] = weights[name].copy()
        permuted[name][:, 2 * n % p] = weights[name][:, :p]
    moved = np.empty_like(mask)
    moved[2 * a % p * p + 2 * b % p] = mask
    old = nanda_measures(weights, p, mask, [1, 2, 3])
    new = nanda_measures(permuted, p, moved, [1, 2, 3])
    order = [min(2 * k % p, -2 * k % p) - 1 for k in (1, 2, 3)]  # old frequency 2 k is new k
    for name, value in old.items():
        if name.endswith("by_freq") or name.startswith("ablate"):
            np.testing.assert_allclose(new[name], value[order], rtol=1e-9, err_msg=name)
        elif "loss" in name or "acc" in name or "cos" in name:
            assert new[name] == pytest.approx(value, rel=1e-9), name


def test_dead_neurons_are_not_counted():
    weights = drawn()
    weights["blocks.0.mlp.b_in"][[3, 8]] = -1e6
    found = nanda_measures(weights, 7, mask_of())
    dead = np.isnan(found["neuron_frac_explained"])
    assert dead[[3, 8]].all()
    np.testing.assert_array_equal(found["neuron_norms_sq"] == 0, dead)
    assert found["neurons_frac_ge_085"] <= (~dead).sum() < 20
    named = {n: v for n, v in flat(found).items() if n != "neuron_frac_explained"}
    assert all(np.isfinite(value).all() for value in named.values())


def test_a_split_without_test_inputs_has_no_test_loss():
    found = nanda_measures(drawn(), 7, np.ones(49, bool), [1])
    assert np.isnan(found["loss_test"])
    assert found["loss_train"] == found["loss_all"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((drawn(), 8, mask_of(8)), r"^modulus must be odd, got 8"),
        ((drawn(), 1, mask_of()), r"^modulus must be an integer >= 3"),
        ((drawn(), 9, mask_of(9)), r"^weights of embed.W_E must be \(12, 10\), got \(12, 8\)"),
        ((drawn(), 7, mask_of()[:-1]), r"^train_mask must be \(49,\) of bool, got \(48,\)"),
        ((drawn(), 7, mask_of() * 1.0), r"^train_mask must be \(49,\) of bool, .* torch.float64"),
        ((drawn(), 7, mask_of(), [4]), r"^key_frequencies must be distinct integers 1 to 3"),
    ],
)
def test_what_cannot_be_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        nanda_measures(*arguments)
