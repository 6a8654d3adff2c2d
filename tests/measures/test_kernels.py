"""Kernel statistics: by hand, against other people's numbers, and their invariances."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from kernel_recipes import drawn_nets, drawn_pair

from grokscope.gradients import empirical_ntk
from grokscope.measures.kernels import (
    explained_dimension,
    kernel_change,
    kernel_distance,
    kernel_velocity,
    label_alignment,
    participation_ratio,
    spectrum_participation_ratio,
)

CENTERINGS = ("none", "both", "one_sided")


def psd(n, seed=0):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((n, n + 2))
    return half @ half.T


def test_alignment_by_hand():
    kernel, y = [[2.0, 1.0], [1.0, 3.0]], [1.0, -1.0]
    assert label_alignment(kernel, y) == pytest.approx((2 + 3 - 2) / (np.sqrt(15) * 2))
    # H K H = (3/4) [[1, -1], [-1, 1]], and y is centred already
    assert label_alignment(kernel, y, centering="both") == pytest.approx(1.0)
    # columns of K without their means: [[.5, -1], [-.5, 1]]
    assert label_alignment(kernel, y, centering="one_sided") == pytest.approx(
        3.0 / (np.sqrt(2.5) * 2)
    )


@pytest.mark.parametrize("centering", CENTERINGS)
def test_alignment_from_its_definition_with_projections(centering):
    n, rng = 7, np.random.default_rng(1)
    K, Y = psd(n), rng.standard_normal((n, 3))
    H = np.eye(n) - 1 / n
    if centering != "none":
        Y = H @ Y
    K_c = {"none": K, "both": H @ K @ H, "one_sided": H @ K}[centering]
    expected = np.trace(Y.T @ K_c @ Y) / np.linalg.norm(K_c) / np.linalg.norm(Y @ Y.T)
    assert label_alignment(K, Y, centering=centering) == pytest.approx(expected, abs=1e-12)


def test_a_kernel_of_the_labels_is_aligned_perfectly():
    y = np.random.default_rng(0).standard_normal(9)
    assert label_alignment(np.outer(y, y), y) == pytest.approx(1.0, abs=1e-12)
    y -= y.mean()
    for centering in CENTERINGS:
        assert label_alignment(np.outer(y, y), y, centering=centering) == pytest.approx(1.0)


def test_only_centring_both_sides_ignores_an_offset_of_labels_and_kernel():
    K, y = psd(8), np.random.default_rng(2).standard_normal(8)
    a = label_alignment(K, y, centering="both")
    assert label_alignment(K + 5, y + 3, centering="both") == pytest.approx(a, abs=1e-12)
    assert abs(label_alignment(K, y + 3) - label_alignment(K, y)) > 0.01


def test_classes_stand_for_one_hot_rows():
    labels = torch.tensor([0, 2, 1, 2])
    one_hot = torch.nn.functional.one_hot(labels).double()
    assert label_alignment(psd(4), labels) == label_alignment(psd(4), one_hot)


def test_distance_change_and_velocity_by_hand():
    K, L = [[1.0, 0.0], [0.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]
    assert kernel_distance(K, L) == pytest.approx(1 - 4 / (np.sqrt(2) * 4))
    assert kernel_change(L, K) == pytest.approx(np.sqrt(1 + 4 + 4 + 1) / np.sqrt(2))
    assert kernel_velocity(K, L, 5.0) == pytest.approx(kernel_distance(K, L) / 5)
    assert kernel_velocity(K, L, 5.0, variant="change") == pytest.approx(kernel_change(L, K) / 5)


def test_growth_changes_a_kernel_but_does_not_move_it():
    K = psd(6)
    assert kernel_distance(K, 3 * K) == pytest.approx(0.0, abs=1e-12)
    assert kernel_change(3 * K, K) == pytest.approx(2.0)


@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (5, 5)])
def test_participation_ratio_is_that_of_all_eigenvalues(shape):
    X = np.random.default_rng(3).standard_normal(shape) * np.arange(1, shape[1] + 1) + 4
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(X.T)))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert participation_ratio(X) == pytest.approx(expected, rel=1e-10)


def reference(shared, kind):
    cases = json.loads((shared / "reference" / "kernels.json").read_text())["cases"]
    found = [case for case in cases if case["kind"] == kind]
    assert found
    return found


def test_published_values_of_distance_and_participation_ratio(shared):
    for case in reference(shared, "cka_and_dimension"):
        X, Y = drawn_pair(case["recipe"])
        values = case["values"]
        distance = kernel_distance(X @ X.T, Y @ Y.T)
        assert distance == pytest.approx(values["kernel_distance_uncentred_linear_gram"], abs=1e-9)
        for name, features in (("X", X), ("Y", Y)):
            found = participation_ratio(features)
            assert found == pytest.approx(values[f"participation_ratio_{name}"], abs=1e-9)
            found = participation_ratio(features, variant="without_last")
            expected = values[f"participation_ratio_peer_dropslast_{name}"]
            assert found == pytest.approx(expected, abs=1e-9)
            found = explained_dimension(features, 0.9, variant="replica_mft")
            assert found == values[f"dim_explained_90_peer_{name}"]


@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (5, 5)])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999, 1.0])
def test_explained_dimension_counts_components_until_the_share_is_reached(shape, share):
    X = np.random.default_rng(4).standard_normal(shape) * np.arange(1, shape[1] + 1) + 4
    variances = np.linalg.svd(X - X.mean(0), compute_uv=False) ** 2
    explained, count = 0.0, 0
    while explained < share * variances.sum() * (1 - 1e-10):
        explained += variances[count]
        count += 1
    assert explained_dimension(X, share) == count


def test_explained_dimension_by_hand():
    # variances in proportion 16 : 4 : 1, orthogonal and centred
    X = np.array([[4, 2, 1], [-4, -2, 1], [4, -2, -1], [-4, 2, -1]], dtype=float)
    assert [explained_dimension(X, s) for s in (0.7, 16 / 21, 0.8, 0.95, 0.96)] == [1, 1, 2, 2, 3]
    assert explained_dimension(np.ones((4, 3))) == 0


def test_explained_dimension_of_the_peer_centres_samples_and_counts_one_fewer():
    X = np.random.default_rng(5).standard_normal((30, 8))
    X -= X.mean(0)
    X -= X.mean(1, keepdims=True)  # centred both ways: only the count differs
    for share in (0.5, 0.9):
        found = explained_dimension(X, share, variant="replica_mft")
        assert found == explained_dimension(X, share) - 1
        shifted = X + np.random.default_rng(6).standard_normal((30, 1)) * 10
        assert explained_dimension(shifted, share, variant="replica_mft") == found
    assert explained_dimension(shifted) == 1


def test_published_values_of_kernels_of_nets(shared):
    for case in reference(shared, "empirical_ntk_two_layer_mlp"):
        X, y, nets = drawn_nets(case["recipe"])
        k, values = case["recipe"]["k"], case["values"]
        targets = torch.from_numpy(y) if k > 1 else torch.from_numpy(2.0 * y - 1)
        full = [empirical_ntk(net, X, "full") for net in nets]
        traced = [empirical_ntk(net, X) for net in nets]
        close = {"rel": 1e-8}
        assert kernel_distance(*full) == pytest.approx(values["kernel_distance_0_1"], **close)
        assert kernel_change(full[1], full[0]) == pytest.approx(
            values["relative_change_0_1"], **close
        )
        for i in range(2):
            found = label_alignment(full[i], targets)
            expected = values["label_alignment_per_class_mean_uncentred"][i]
            assert found == pytest.approx(expected, **close)
            found = label_alignment(full[i], targets, centering="both")
            expected = values["label_alignment_per_class_mean_centred_cka"][i]
            assert found == pytest.approx(expected, **close)
            of_traced = values["output_traced_ntk"]
            found = label_alignment(traced[i], targets)
            assert found == pytest.approx(of_traced["label_alignment_uncentred"][i], **close)
            found = label_alignment(traced[i], targets, centering="both")
            assert found == pytest.approx(of_traced["label_alignment_centred_cka"][i], **close)
            expected = values["participation_ratio_of_spectrum"][i]
            assert spectrum_participation_ratio(full[i]) == pytest.approx(expected, **close)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: label_alignment(psd(4), [1.0, 2.0, 3.0]), r"kernel must be \(3, 3\) or \(3, 3\)"),
        (lambda: label_alignment(psd(4), np.zeros(4), centering="half"), "centering must be one"),
        (lambda: label_alignment(np.zeros((2, 3)), np.zeros(2)), "kernel must be square"),
        (lambda: kernel_distance(psd(3), psd(4)), "kernels must have one shape"),
        (lambda: kernel_velocity(psd(3), psd(3), 0.0), "elapsed must be a number > 0"),
        (lambda: participation_ratio(np.zeros(3)), "features must be a matrix"),
        (lambda: participation_ratio(np.eye(3), variant="first"), "variant must be one of all"),
        (lambda: explained_dimension(np.eye(3), 0.0), "share must be a number > 0 and <= 1"),
        (lambda: explained_dimension(np.eye(3), 1.1), "share must be a number > 0 and <= 1"),
        (lambda: explained_dimension(np.eye(3), variant="all"), "variant must be one of reached"),
        (lambda: explained_dimension([1.0, 2.0]), "features must be a matrix"),
    ],
)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
