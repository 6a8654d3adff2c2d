import pytest
import torch
from torch import nn

from grokscope.gradients.layout import gradient_layout
from grokscope.measures.slot_squares import slot_squares

NET = nn.Sequential(nn.Linear(40, 300), nn.Linear(300, 3))
LAYOUT = gradient_layout(NET.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_are_float64_in_every_precision(dtype, generator):
    a, b = (torch.randn(LAYOUT.size, generator=generator).to(dtype) for _ in range(2))
    squares, product = slot_squares(a, b, LAYOUT)
    parts = a.double().split([slot.size for slot in LAYOUT.slots])
    expected = torch.stack([part.square().sum() for part in parts])
    torch.testing.assert_close(squares, expected, rtol=1e-14, atol=0)
    assert product == pytest.approx(float(a.double() @ b.double()), rel=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_its_own_parameter_only(value):
    a = torch.ones(LAYOUT.size)
    a[LAYOUT.slots[1].offset] = value
    squares, product = slot_squares(a, torch.ones_like(a), LAYOUT)
    assert squares.isfinite().tolist() == [True, False, True, True]
    assert not torch.tensor(product).isfinite()
