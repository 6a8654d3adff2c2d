"""The NTK-scaled net, and the output scale of all."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from grokscope.nets import MLP, NTKMLP, mlp


def test_it_is_the_published_formula(generator):
    net = NTKMLP((9, 6, 5, 3), init_std=2.0, output_scale=0.7, seed=0).double()
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    W1, W2, W3 = (p.detach() for p in net.parameters())
    h = W1 @ x.T / 9**0.5
    h = W2 @ torch.relu(h) / 6**0.5
    expected = (torch.relu(h).T @ W3.T) / 5 * 0.7
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net(x.view(4, 3, 3)), expected)


@pytest.mark.parametrize("kind", [MLP, NTKMLP])
def test_output_scale_multiplies_both_ways_through(kind, monkeypatch):
    monkeypatch.setattr(mlp, "_WORTH_SHARING", 1)
    x = F.one_hot(torch.arange(20)).double()
    plain, scaled = (kind((20, 8, 3), seed=0, output_scale=s).double() for s in (1.0, 3.0))
    torch.testing.assert_close(scaled(x), 3 * plain(x))
    torch.testing.assert_close(scaled.forward_shared(scaled.share(x)), 3 * plain(x))


@pytest.mark.refusal
@pytest.mark.parametrize("kind", [MLP, NTKMLP])
def test_a_scale_that_is_not_positive_is_refused(kind):
    with pytest.raises(ValueError, match="output_scale must be a number > 0"):
        kind((3, 2), output_scale=0.0)
