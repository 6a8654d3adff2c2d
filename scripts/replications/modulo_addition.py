"""ModuloAdditionNet (JackCorner/BEP-Grokking-Public): its delay, and its exact identities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from grokscope.measures.complexity import absolute_weight_entropy, linf_norm
from grokscope.measures.weights import NORMS, normalize_scale, remove_bias
from replications._series import RECORD_NOTHING, Runs, delay
from replications.claims import SEEDS, Claim, Replication, between, first_above

CODE = "JackCorner/BEP-Grokking-Public"
P, HIDDEN, FASTER = 13, 91, 500


def published_epochs(runs: Runs) -> float | None:
    """Epochs to 99.9 % of the test pairs, times the ratio of the rates."""
    right = first_above(runs["p 13"], "test_acc", 0.999)
    return None if right is None else FASTER * right


def worst(_: Runs, error: Callable[[int], float]) -> float:
    return max(map(error, SEEDS))


def net(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random first weights, last weights and biases."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (HIDDEN, 2 * P), (P, HIDDEN), (HIDDEN,)
    first, last, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes
    )
    return first, last, bias


def outputs(first: Tensor, last: Tensor, bias: Tensor | None = None) -> Tensor:
    """Of a ReLU net on all pairs."""
    eye = torch.eye(P, dtype=torch.float64)
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    hidden = torch.cat([eye[a], eye[b]], 1) @ first.T
    return torch.relu(hidden if bias is None else hidden + bias) @ last.T


def bias_error(seed: int) -> float:
    first, last, bias = net(seed)
    moved = outputs(remove_bias(first, bias), last)
    return float((moved - outputs(first, last, bias)).abs().max())


def scale_error(seed: int) -> float:
    """Over both layers and all norms."""
    first, last, bias = net(seed)
    before = outputs(first, last, bias)
    scaled = [
        outputs(*normalize_scale(first, last, bias, norm=norm, of=of))
        for norm in NORMS
        for of in ("first", "last")
    ]
    return max(float((after - before).abs().max()) for after in scaled)


def norm_error(seed: int) -> float:
    """Relative change of the L-infinity norm when the scale moves."""
    first, last, bias = net(seed)
    whole = remove_bias(first, bias)
    scaled = normalize_scale(whole, last, norm="l2")
    return abs(float(linf_norm(*scaled[:2]) / linf_norm(first, last, bias)) - 1)


def entropy_error(seed: int, bound: float = 0.2) -> float:
    """Entropy of uniform weights against m n (a / 4 - (a / 2) log a)."""
    generator = torch.Generator().manual_seed(seed)
    weight = bound * (2 * torch.rand(1000, 1000, dtype=torch.float64, generator=generator) - 1)
    a = torch.tensor(bound, dtype=torch.float64)
    expected = weight.numel() * (a / 4 - a / 2 * a.log())
    return abs(float(absolute_weight_entropy(weight) / expected) - 1)


def identity(says: str, error: Callable[[int], float], most: float, source: str = CODE) -> Claim:
    measure = partial(worst, error=error)
    return Claim(says, source, "0", measure, lambda value: value <= most, f"<= {most:g}")


REPLICATIONS = [
    Replication(
        "modulo_addition",
        {
            "p 13": (
                "experiment=modulo_addition_small",
                "measures=none",
                "schedule.metrics=every 10",
                RECORD_NOTHING,
            )
        },
        (
            Claim(
                "epochs to 99.9 % of the test pairs, times 500, as the rate is 500 times larger",
                f"{CODE}; laptop scale",
                "about 1e6",
                published_epochs,
                between(1e6 / 3, 3e6),
                "within a factor of 3",
            ),
            Claim(
                "epochs to 99 % of the test pairs over those of the training pairs",
                f"{CODE}; laptop scale",
                "generalises late",
                partial(delay, run="p 13"),
                lambda value: value >= 2,
                ">= 2",
            ),
        ),
        minutes=1,
    ),
    Replication(
        "modulo_addition_theory",
        {},
        (
            identity("bias moved into the weights: largest change", bias_error, 1e-10),
            identity("scale moved between layers: largest change", scale_error, 1e-10),
            identity("the same: relative change of the L-infinity norm", norm_error, 1e-12),
            identity(
                "entropy of uniform weights: relative distance from its expectation",
                entropy_error,
                0.01,
                "Golechha 2024 (arXiv 2405.12755), formula",
            ),
        ),
    ),
]
