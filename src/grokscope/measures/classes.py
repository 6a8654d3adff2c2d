"""Right and wrong by class."""

from __future__ import annotations

import torch
from torch import Tensor


def confusion_matrix(outputs: Tensor, classes: Tensor) -> Tensor:
    """How many samples of each class were taken for each other.

    Args:
        outputs: (n, c); the largest is the answer, the first of equal ones.
        classes: (n,), 0 to c - 1.

    Returns:
        (c, c) int64: row is the true class, column the answer; the trace is what is right.

    Raises:
        ValueError: For shapes or classes that do not fit.
    """
    c = _classes(outputs, classes)
    return torch.bincount(classes * c + outputs.argmax(1), minlength=c * c).view(c, c)


def logit_margins(outputs: Tensor, classes: Tensor) -> Tensor:
    r"""The margin :math:`z_y - \max_{k \ne y} z_k` of each sample, float64; positive is right.

    Args:
        outputs: z, (n, c), c at least 2.
        classes: y, (n,), 0 to c - 1.

    Returns:
        (n,), in units of the outputs.

    Raises:
        ValueError: For shapes or classes that do not fit, or a single class.
    """
    if _classes(outputs, classes) < 2:
        raise ValueError(f"outputs must have at least 2 classes, got {tuple(outputs.shape)}.")
    z, y = outputs.double(), classes[:, None]
    others = z.scatter(1, y, float("-inf"))
    return z.gather(1, y)[:, 0] - others.amax(1)


def margins_by_class(outputs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and smallest :func:`logit_margins` of each class, (c,); NaN without samples."""
    margins, c = logit_margins(outputs, classes), outputs.shape[1]
    sums = torch.zeros(c, dtype=torch.float64, device=margins.device)
    counts = sums.scatter_add(0, classes, torch.ones_like(margins))
    means = sums.scatter_add(0, classes, margins) / counts
    smallest = torch.full_like(sums, float("nan")).scatter_reduce(
        0, classes, margins, "amin", include_self=False
    )
    return means, smallest


def _classes(outputs: Tensor, classes: Tensor) -> int:
    if outputs.ndim != 2 or classes.shape != outputs.shape[:1]:
        raise ValueError(
            f"outputs must be (n, c) and classes (n,), got {tuple(outputs.shape)} and "
            f"{tuple(classes.shape)}."
        )
    c = outputs.shape[1]
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < c:
        raise ValueError(
            f"classes must be 0 to {c - 1}, got {int(classes.min())} to {int(classes.max())}."
        )
    return c
