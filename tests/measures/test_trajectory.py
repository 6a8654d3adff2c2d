from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from grokscope.gradients.layout import GradientLayout, gradient_layout
from grokscope.measures.gop import subspace_overlap, trajectory_gop
from grokscope.measures.trajectory import GradientWindow, window_overlap


def layout() -> GradientLayout:
    """26 parameters: a layer of 16 and one of 10."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    return gradient_layout(net.named_parameters())


def draw(steps: int, generator: torch.Generator, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(steps, 26, generator=generator, dtype=dtype)


def explicit(rows: torch.Tensor) -> torch.Tensor:
    return sum(torch.outer(row, row) for row in rows.double()) / len(rows)


def spectrum(matrix: torch.Tensor, count: int) -> np.ndarray:
    return torch.linalg.eigvalsh(matrix).flip(0)[:count].numpy()


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_has_the_spectrum_of_the_explicit_matrix(steps: int, dtype, generator) -> None:
    rows = draw(steps, generator, dtype)
    gop, expected = trajectory_gop(rows), explicit(rows)
    rank = min(steps, 26)
    np.testing.assert_allclose(
        gop.eigenvalues[:rank], spectrum(expected, rank), rtol=0, atol=1e-10
    )
    torch.testing.assert_close(gop.dense(), expected, rtol=0, atol=1e-10)


def test_the_order_of_the_steps_does_not_matter(generator) -> None:
    rows = draw(5, generator)
    np.testing.assert_allclose(
        trajectory_gop(rows).eigenvalues, trajectory_gop(rows.flip(0)).eigenvalues, rtol=1e-12
    )


def test_steps_along_one_line_have_one_direction() -> None:
    direction = torch.ones(26, dtype=torch.float64) / math.sqrt(26)
    gop = trajectory_gop(torch.outer(torch.tensor([1.0, -2.0, 3.0]).double(), direction))
    assert gop.metrics()["rank"] == 1
    assert gop.eigenvalues[0] == pytest.approx((1 + 4 + 9) / 3, rel=1e-12)


@pytest.mark.parametrize("pushes", [[1] * 9, [2, 3, 1, 2], [7], [4, 9, 1], [3, 4, 4]])
def test_the_window_has_the_gram_matrices_of_the_last_steps(pushes: list[int], generator) -> None:
    window, rows = GradientWindow(layout(), 4), draw(sum(pushes), generator)
    for part in rows.split(pushes):
        move = window.push(part)
    last = rows[-4:]
    assert window.count == 4
    for offset, stop, slots in [(0, 16, (0, 1)), (16, 26, (2, 3)), (0, 26, (0, 1, 2, 3))]:
        found = torch.linalg.eigvalsh(move.mean()[list(slots)].sum(0)).flip(0)
        block = explicit(last)[offset:stop, offset:stop]
        np.testing.assert_allclose(found.numpy(), spectrum(block, 4), rtol=0, atol=1e-10)


def test_a_window_that_is_not_full_is_zero_elsewhere(generator) -> None:
    window, rows = GradientWindow(layout(), 5), draw(2, generator)
    grams = window.push(rows).after
    assert window.count == 2
    torch.testing.assert_close(grams.sum(0)[:2, :2], rows @ rows.T)
    assert not grams[:, 2:].any()
    assert not grams[:, :, 2:].any()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 6), st.lists(st.integers(1, 8), min_size=2, max_size=7), st.integers(0, 2**16)
)
def test_the_overlap_is_that_of_the_eigenvectors(size: int, pushes, seed: int) -> None:
    window = GradientWindow(layout(), size)
    rows = draw(sum(pushes), torch.Generator().manual_seed(seed))
    done = 0
    for count in pushes:
        previous = rows[max(0, done - size) : done]
        found = window.push(rows[done : done + count]).overlap(size)
        done += count
        if not len(previous):
            assert math.isnan(found)
            continue
        expected = subspace_overlap(rows[max(0, done - size) : done], previous, size)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_overlap_counts_shared_directions(k: int) -> None:
    basis = torch.eye(26, dtype=torch.float64) * torch.arange(26, 0, -1).double().sqrt()
    a, b = basis[:3], basis[[0, 1, 5]]
    found = window_overlap(a @ a.T, a @ b.T, b @ b.T, k)
    assert found == pytest.approx(min(2, k) / k, rel=1e-12)


def test_the_overlap_with_nothing_is_undefined() -> None:
    zero, one = torch.zeros(3, 3).double(), torch.eye(3).double()
    assert math.isnan(window_overlap(zero, zero, one, 3))
    assert math.isnan(window_overlap(one, one, one * math.nan, 3))


def test_a_step_costs_its_products_with_the_window_and_no_more(generator, monkeypatch) -> None:
    pairs = []
    products = GradientWindow._products

    def counted(self, a, b):
        pairs.append(len(a) * len(b))
        return products(self, a, b)

    monkeypatch.setattr(GradientWindow, "_products", counted)
    window = GradientWindow(layout(), 6)
    for row in draw(9, generator):
        pairs.clear()
        window.push(row[None])
        assert sum(pairs) == 6 + 1  # the whole Gram matrix would be 36


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_not_taken(bad: float, generator) -> None:
    window, rows = GradientWindow(layout(), 3), draw(4, generator)
    window.push(rows[:3])
    before, spoilt = window.grams, rows[3:].clone()
    spoilt[0, 20] = bad  # in the weight of the second layer
    grams = window.push(spoilt).after
    assert torch.isfinite(grams[:2]).all()
    assert not torch.isfinite(grams[2]).all()
    assert torch.equal(window.grams, before)
    grams = window.push(rows[3:]).after
    expected = rows[1:] @ rows[1:].T
    torch.testing.assert_close(
        torch.linalg.eigvalsh(grams.sum(0)), torch.linalg.eigvalsh(expected)
    )


@pytest.mark.parametrize("done", [0, 2, 5, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_window_goes_on_from_its_state_bit_by_bit(done: int, dtype, generator) -> None:
    rows = draw(17, generator, dtype)
    whole, part = (GradientWindow(layout(), 4) for _ in range(2))
    for row in rows[:done]:
        whole.push(row[None])
    state = whole.state()
    assert state["rows"].dtype == (dtype if done else torch.float64)
    part.restore(state)
    for row in rows[done:]:
        a, b = whole.push(row[None]), part.push(row[None])
        assert a.count == b.count
        assert torch.equal(a.after, b.after)
        assert torch.equal(a.cross, b.cross)


def test_the_state_does_not_follow_the_window(generator) -> None:
    window, rows = GradientWindow(layout(), 2), draw(3, generator)
    window.push(rows[:2])
    state = window.state()
    window.push(rows[2:])
    assert torch.equal(state["rows"], rows[:2])


def test_the_state_of_another_window_is_passed_over(generator) -> None:
    other = GradientWindow(layout(), 3)
    other.push(draw(3, generator))
    window = GradientWindow(layout(), 4)
    window.restore(other.state())
    assert window.count == 0
    elsewhere = GradientWindow(gradient_layout(nn.Linear(2, 2).named_parameters()), 3)
    elsewhere.restore(other.state())
    assert elsewhere.count == 0


@pytest.mark.parametrize("name", ["trajectory", "gop"])
def test_either_module_can_be_imported_first(name: str) -> None:
    code = f"from grokscope.measures.{name} import trajectory_gop"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.refusal
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 2, 2)])
def test_what_is_not_rows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"gradients must be \(W, m\) with W >= 1"):
        trajectory_gop(torch.ones(shape))
