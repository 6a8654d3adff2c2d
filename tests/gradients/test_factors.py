from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import pytest
import torch
from gradients.zoo import CASES, Problem, assert_near, explicit, problem, squared
from torch import Tensor, nn

from grokscope.gradients import Factors, capture

SINGLE = 1e-4  # relative to the largest entry, for nets in float32
IN_FLOAT32 = [
    *("mlp", "linear over positions", "embedding with padding", "LayerNorm over positions"),
    *("transformer of Nanda, last position", "transformer of TransformerLens", "nanoGPT, tied"),
    *("small CNN", "Conv2d, all at once", "LSTM", "weight norm", "temperature"),
]


@cache
def solved(name: str) -> tuple[Problem, Factors, Tensor]:
    """A problem of the zoo, its factors and its explicit A; nothing may change them."""
    given = CASES[name].build()
    return given, capture(*given), explicit(*given)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Problem, Factors, Tensor]:
    return solved(request.param)


def parts(factors: Factors, A: Tensor) -> list[tuple[str | None, Tensor]]:
    """The whole and each layer, with their columns of A."""
    owners = [slot.layer for slot in factors.layout.slots for _ in range(slot.size)]
    columns = [
        (layer, A[:, torch.tensor([owner == layer for owner in owners])])
        for layer in factors.layers
    ]
    return [(None, A), *columns]


def noise(A: Tensor) -> Tensor:
    """What rounding leaves where a gradient vanishes: of a key's bias before a softmax."""
    return 1e-14 * A.norm()


def small(name: str = "mlp", n: int = 5) -> tuple[Factors, Tensor]:
    given = CASES[name].build(n)
    return capture(*given), explicit(*given)


# ---- equality with one sample at a time ---------------------------------------------------


def test_gram_matrices_equal_those_of_explicit_gradients(case) -> None:
    _, factors, A = case
    for layer, rows in parts(factors, A):
        gram = factors.gram(layer)
        assert gram.dtype == torch.float64
        assert_near(gram, rows @ rows.T, noise=noise(A) ** 2)


def test_centred_gram_matrices_equal_those_of_explicit_gradients(case) -> None:
    _, factors, A = case
    for layer, rows in parts(factors, A):
        apart = rows - rows.mean(0)
        gram = factors.gram(layer, centered=True)
        assert_near(gram, apart @ apart.T, scale=rows @ rows.T, noise=noise(A) ** 2)


def test_norms_and_mean_equal_those_of_explicit_gradients(case) -> None:
    _, factors, A = case
    for layer, rows in parts(factors, A):
        norms = factors.sample_norms(layer)
        assert norms.dtype == torch.float64
        assert_near(norms, rows.norm(dim=1), noise=noise(A))
        assert_near(factors.mean_gradient(layer), rows.mean(0), scale=rows, noise=noise(A))


def test_products_with_vectors_equal_those_of_explicit_gradients(case, generator) -> None:
    _, factors, A = case
    for layer, rows in parts(factors, A):
        u = torch.randn(3, len(rows), generator=generator, dtype=torch.float64)
        v = torch.randn(2, rows.shape[1], generator=generator, dtype=torch.float64)
        assert_near(factors.vjp(u, layer), u @ rows, noise=noise(A))
        assert_near(factors.vjp(u[0], layer), u[0] @ rows, noise=noise(A))
        assert_near(factors.jvp(v, layer), v @ rows.T, noise=noise(A))
        assert_near(factors.jvp(v[0], layer), rows @ v[0], noise=noise(A))


def test_dense_is_the_matrix_of_explicit_gradients(case) -> None:
    _, factors, A = case
    for layer, rows in parts(factors, A):
        assert_near(factors.dense(layer), rows, noise=noise(A))


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_a_net_in_float32_gives_the_same_up_to_its_rounding(name: str) -> None:
    given = CASES[name].build(dtype=torch.float32)
    factors, A = capture(*given), explicit(*given)
    assert factors.gram().dtype == factors.sample_norms().dtype == torch.float64
    assert_near(factors.gram(), A @ A.T, SINGLE)
    assert_near(factors.sample_norms(), A.norm(dim=1), SINGLE)
    assert_near(factors.mean_gradient(), A.mean(0), SINGLE, scale=A)
    assert_near(factors.dense(), A, SINGLE)
    assert_near(factors.vjp(torch.ones(len(A))), A.sum(0), SINGLE, scale=A)
    assert_near(factors.jvp(torch.ones(A.shape[1])), A.sum(1), SINGLE, scale=A)


# ---- invariants ---------------------------------------------------------------------------


def test_the_layers_grams_add_up_to_a_symmetric_positive_one(case) -> None:
    _, factors, _ = case
    K = factors.gram()
    assert_near(sum(factors.gram(layer) for layer in factors.layers), K, 1e-12)
    assert torch.equal(K, K.T)
    eigenvalues = torch.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -1e-12 * eigenvalues[-1]
    assert_near(K.trace(), factors.sample_norms().square().sum(), 1e-12)


def test_the_second_moment_is_the_covariance_plus_the_batch_part(case) -> None:
    _, factors, A = case
    K, apart = factors.gram(), factors.gram(centered=True)
    n, mean = factors.n_samples, factors.mean_gradient()
    assert_near(K.trace() / n, apart.trace() / n + mean.square().sum(), 1e-11)
    assert_near(apart.sum(0), torch.zeros(n, dtype=torch.float64), 1e-11, scale=n * K)
    # G and K / n share their spectrum: G from the factors' centred rows and the mean
    rows = factors.dense() - mean
    both = torch.cat([rows / n**0.5, mean[None].to(rows)])
    wanted = torch.linalg.svdvals(both).square()[: min(n, A.shape[1])]
    got = torch.linalg.eigvalsh(K / n).flip(0)[: len(wanted)]
    assert_near(got, wanted, 1e-11)


def test_tiny_chunks_change_nothing(case) -> None:
    given, factors, _ = case
    chunked = capture(*given, max_bytes=2000)
    assert_near(chunked.gram(), factors.gram(), 1e-12)
    assert_near(chunked.sample_norms(), factors.sample_norms(), 1e-12)
    assert_near(chunked.mean_gradient(), factors.mean_gradient(), 1e-12, scale=factors.dense())
    u = torch.linspace(-1, 2, factors.n_samples, dtype=torch.float64)
    v = torch.linspace(-1, 2, factors.layout.size, dtype=torch.float64)
    assert_near(chunked.vjp(u), factors.vjp(u), 1e-12, scale=factors.dense())
    assert_near(chunked.jvp(v), factors.jvp(v), 1e-12, scale=factors.dense() * v)


def test_another_order_of_the_samples_permutes_the_gram(case) -> None:
    given, factors, _ = case
    order = torch.tensor([3, 0, 4, 1, 2])
    other = capture(*given.take(order))
    assert_near(other.gram(), factors.gram()[order][:, order], 1e-12)
    assert other.forms == factors.forms


@pytest.mark.parametrize("name", ["mlp", "nanoGPT, tied", "small CNN", "GRU, sequence first"])
def test_a_repeated_sample_repeats_its_row(name: str) -> None:
    given = CASES[name].build(3)
    again = torch.tensor([0, 1, 1, 2, 1])
    K = capture(*given).gram()
    assert_near(capture(*given.take(again)).gram(), K[again][:, again], 1e-12)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_one_and_two_samples_are_enough(name: str, n: int) -> None:
    given = CASES[name].build(n)
    factors, A = capture(*given), explicit(*given)
    assert factors.n_samples == n
    apart = A - A.mean(0)
    assert_near(factors.gram(), A @ A.T)
    assert_near(factors.gram(centered=True), apart @ apart.T, scale=A @ A.T)
    assert_near(factors.vjp(torch.ones(n, dtype=torch.float64)), A.sum(0), scale=A)


@pytest.mark.parametrize("n", [3, 17, 70])
@pytest.mark.parametrize("name", ["mlp", "transformer of Nanda, all positions", "Conv1d"])
def test_any_number_of_samples_in_blocks(name: str, n: int) -> None:
    given = CASES[name].build(n)
    A = explicit(*given)
    assert_near(capture(*given, max_bytes=150_000).gram(), A @ A.T)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("a parameter that is never used", ["idle", "spare"]),
        ("a parameter used without gradient", ["g", "b"]),
    ],
)
def test_a_parameter_without_gradient_has_zero_rows(name: str, layers: list[str]) -> None:
    factors, _ = small(name)
    for layer in layers:
        assert not factors.dense(layer).any()
        assert not factors.gram(layer).any()
        assert not factors.gram(layer, centered=True).any()
        assert not factors.sample_norms(layer).any()
        assert not factors.mean_gradient(layer).any()


def test_frozen_parameters_are_left_out() -> None:
    factors, A = small("frozen parts")
    assert factors.layers == ("a", "c")
    assert factors.layout.size == A.shape[1] == 4 * 3 + 3 + 3 * 2 + 2


def test_no_gradient_at_all_gives_zeros() -> None:
    net = nn.Linear(3, 2).double()
    inputs, targets = torch.ones(4, 3).double(), torch.zeros(4)
    factors = capture(net, lambda out, _: 0 * out.sum(1), inputs, targets)
    assert not factors.gram().any()
    assert not factors.sample_norms().any()


@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize(
    "name",
    [
        *("mlp", "linear over positions", "nanoGPT", "Conv1d", "GRUCell"),
        *("positions flattened, sample index fast", "samples repeated as a whole"),
    ],
)
def test_a_sample_that_is_not_finite_spoils_only_its_own_row(name: str, bad: int) -> None:
    case = CASES[name]
    given = problem(case.net, case.shapes, squared, case.vocabulary)
    A = explicit(*given)
    given.targets[bad] = torch.nan
    K = capture(*given).gram()
    fine = torch.tensor([i for i in range(5) if i != bad])
    assert K[bad].isnan().all()
    assert K[:, bad].isnan().all()
    assert_near(K[fine][:, fine], (A @ A.T)[fine][:, fine])


@pytest.mark.parametrize("max_bytes", [2**31, 1000])
def test_factors_keep_to_the_moment_of_capture(max_bytes: int) -> None:
    """Or refuse, where they would have to be computed again: never another net's numbers."""
    given = CASES["mlp"].build()
    factors, A = capture(*given, max_bytes=max_bytes), explicit(*given)
    with torch.no_grad():
        for parameter in given.net.parameters():
            parameter.mul_(-3)
        given.inputs.mul_(2)
    stale = pytest.raises(RuntimeError, match="changed")
    with nullcontext() if factors.resident else stale:
        assert_near(factors.gram(), A @ A.T)
    with nullcontext() if factors.resident else stale:
        assert_near(factors.vjp(torch.ones(5)), A.sum(0), scale=A)
    with nullcontext() if factors.resident else stale:
        assert_near(factors.jvp(torch.ones(A.shape[1])), A.sum(1), scale=A)


# ---- refusals -----------------------------------------------------------------------------


@pytest.mark.refusal
def test_a_dense_matrix_above_the_limit_is_refused_with_both_sizes() -> None:
    factors, A = small()
    needed = A.numel() * 8
    assert_near(factors.dense(max_bytes=needed), A)
    with pytest.raises(ValueError, match=rf"(?s)(?=.*\b{needed:,}\b)(?=.*\b{needed - 1:,}\b)"):
        factors.dense(max_bytes=needed - 1)
    factors.dense(factors.layers[-1], max_bytes=needed - 1)


@pytest.mark.refusal
@pytest.mark.parametrize("what", ["gram", "mean_gradient", "sample_norms", "dense"])
def test_an_unknown_layer_is_refused(what: str) -> None:
    factors, _ = small()
    with pytest.raises(ValueError, match=r"layer.*nowhere"):
        getattr(factors, what)("nowhere")


@pytest.mark.refusal
@pytest.mark.parametrize(("what", "length"), [("vjp", 5), ("jvp", 57)])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 4), (58,), (2, 2, 5)])
def test_a_vector_of_the_wrong_length_is_refused(what: str, length: int, shape) -> None:
    factors, _ = small()
    assert factors.layout.size == 57
    with pytest.raises(ValueError, match=rf"\b{length}\b"):
        getattr(factors, what)(torch.ones(shape, dtype=torch.float64))
