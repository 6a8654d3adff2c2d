"""Matrices as callers give them, in float64: what the kernel measures take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Array = Any
"""A matrix or vector as numpy, torch or nested lists give it."""


def matrix(name: str, value: Array) -> Tensor:
    """A matrix, detached, in float64, where it lies.

    Raises:
        ValueError: If it is none, or empty.
    """
    value = value if not isinstance(value, Sequence) else list(value)
    found = torch.as_tensor(value).detach().to(torch.float64)
    if found.ndim != 2 or found.numel() == 0:
        raise ValueError(f"{name} must be a matrix, got shape {tuple(found.shape)}.")
    return found


def square(name: str, value: Array) -> Tensor:
    """The same of a square matrix."""
    found = matrix(name, value)
    if found.shape[0] != found.shape[1]:
        raise ValueError(f"{name} must be square, got shape {tuple(found.shape)}.")
    return found


def columns(targets: Array) -> Tensor:
    """(n, c) numbers; integers (n,) are classes, which stand for one-hot rows."""
    Y = torch.as_tensor(targets).detach()
    if Y.ndim == 1 and not Y.is_floating_point():
        Y = F.one_hot(Y.long())
    Y = Y.to(torch.float64)
    if Y.ndim not in (1, 2) or len(Y) == 0:
        raise ValueError(f"targets must be (n,) or (n, c), got shape {tuple(Y.shape)}.")
    return Y.reshape(len(Y), -1)


def ratio(above: Tensor, below: Tensor) -> float:
    """A quotient of two numbers; NaN where the divisor is zero."""
    return float(above / below) if float(below) else float("nan")


def refuse_above(max_bytes: int, needed: int, what: str) -> None:
    """Refuse what would take too much memory, before it is made.

    Raises:
        ValueError: If ``needed`` is more than ``max_bytes``.
    """
    if needed > max_bytes:
        raise ValueError(f"max_bytes must be >= {needed:,} for {what}, got {max_bytes:,}.")
