"""The largest curvature of a loss, by Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grokscope.validation import require_float, require_int

Tensors = Sequence[Tensor]
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TopEigenvalue:
    """The largest eigenvalue of a symmetric matrix, and how far it can be off.

    Attributes:
        value: The Ritz value; never above the true one but for rounding.
        residual: ‖H v - value v‖ for the unit vector v: an eigenvalue lies within this distance.
        products: Matrix-vector products that it took.
        vector: v, (m,).
    """

    value: float
    residual: float
    products: int
    vector: Tensor


def top_hessian_eigenvalue(
    loss: Tensor,
    parameters: Tensors,
    *,
    start: Tensor | None = None,
    iterations: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> TopEigenvalue:
    r"""The largest (most positive) eigenvalue of :math:`\nabla^2 L`, by Lanczos' method.

    Each product is one more backward pass. Full reorthogonalisation keeps ``iterations`` vectors
    of the size of the weights.

    Args:
        loss: L, a scalar with its graph.
        parameters: The weights, those the loss does not depend on included.
        start: First vector, such as that of an earlier epoch; default: a random one.
        iterations: Products, at most.
        tolerance: It ends when the residual is below this share of the value.
        seed: Of the random vector.

    Raises:
        ValueError: For an argument out of range, or a start of another size.

    Source:
        Lanczos 1950; Golub & Van Loan, Matrix Computations, section 10.1. The sharpness of
        Cohen et al. 2021, arXiv:2103.00065.
    """
    size = sum(p.numel() for p in parameters)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)

    def product(vector: Tensor) -> Tensor:
        return _hessian_product(gradients, parameters, vector)

    if start is None:
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(size, generator=generator).to(loss.device, parameters[0].dtype)
    return top_eigenvalue(product, start, iterations=iterations, tolerance=tolerance)


def top_eigenvalue(
    product: Product, start: Tensor, *, iterations: int = 50, tolerance: float = 1e-3
) -> TopEigenvalue:
    """The same of any symmetric matrix, given by its products with vectors (m,).

    Raises:
        ValueError: For an argument out of range, or a start of zero or that is no vector.
    """
    require_int("iterations", iterations)
    require_float("tolerance", tolerance, above=0.0)
    if start.ndim != 1 or not float(start.norm()):
        raise ValueError(f"start must be (m,) and not zero, got shape {tuple(start.shape)}.")
    basis, diagonal, beside = [start / start.norm()], [], []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        rest = _without(image, basis)
        beside.append(float(rest.norm()))
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        residual = beside[-1] * abs(float(vectors[-1, -1]))
        top = float(values[-1])
        done = residual <= tolerance * abs(top) or len(diagonal) in (iterations, len(start))
        if done or not beside[-1]:
            ritz = torch.stack(basis).t() @ vectors[:, -1].to(start)
            return TopEigenvalue(top, residual, len(diagonal), ritz)
        basis.append(rest / beside[-1])


def _without(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """What is orthogonal to the basis; twice, because once leaves rounding."""
    for _ in range(2):
        for other in basis:
            vector = vector - (vector @ other) * other
    return vector


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)


def _hessian_product(gradients: Sequence[Tensor | None], weights: Tensors, v: Tensor) -> Tensor:
    parts = v.split([p.numel() for p in weights])
    slopes = [
        (g.flatten() * part).sum()
        for g, part in zip(gradients, parts, strict=True)
        if g is not None and g.requires_grad
    ]
    if not slopes:
        return torch.zeros_like(v)
    products = torch.autograd.grad(
        torch.stack(slopes).sum(), weights, retain_graph=True, allow_unused=True
    )
    flat = [
        torch.zeros_like(p) if h is None else h for h, p in zip(products, weights, strict=True)
    ]
    return torch.cat([h.flatten() for h in flat])
