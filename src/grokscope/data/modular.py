"""Tables of binary operations modulo p."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_choice, require_float, require_int

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "x2_xy_y2": lambda a, b: a * a + a * b + b * b,
}
DIVIDE = "divide"
SPLITS = ("python", "torch")
ENCODINGS = ("tokens", "pairs", "one_hot")


class ModularDataModule(TensorDataModule):
    """All ordered pairs (a, b) and c = a ∘ b mod p; a random part trains, the rest tests.

    Args:
        modulus: p; a prime for ``divide``.
        operation: ``add``, ``subtract``, ``multiply``, ``x2_xy_y2`` (a² + ab + b²) or ``divide``
            (a / b, without b = 0: the p (p - 1) pairs (xy, y) with c = x, as in the code of
            Mallinar et al. 2024).
        train_fraction: ``int(train_fraction * p^2)`` pairs train; p (p - 1) for ``divide``.
        encoding: ``tokens``: inputs (n, 3) int64, a, b and the token p for "=" (Nanda et al.
            2023). ``pairs``: (n, 2) int64, a and b alone (the transformer of Doshi et al. 2024).
            ``one_hot``: inputs (n, 2p), two one-hot blocks (Gromov 2023).
        split: Which generator shuffles the pairs, listed by a and then b: ``python``
            (``random.shuffle`` after ``random.seed``, Nanda et al.) or ``torch`` (``randperm``).
        seed: Seeds the split and the order of mini-batches.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.
    """

    def __init__(
        self,
        modulus: int = 113,
        operation: str = "add",
        train_fraction: float = 0.3,
        encoding: str = "tokens",
        split: str = "torch",
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        self.modulus = require_int("modulus", modulus, minimum=2, maximum=10_000)
        self.operation = require_choice("operation", operation, (*OPERATIONS, DIVIDE))
        self.train_fraction = require_float("train_fraction", train_fraction, above=0.0, below=1.0)
        self.encoding = require_choice("encoding", encoding, ENCODINGS)
        self.split = require_choice("split", split, SPLITS)
        if operation == DIVIDE and any(modulus % k == 0 for k in range(2, isqrt(modulus) + 1)):
            raise ValueError(f"modulus must be a prime for operation=divide, got {modulus}.")
        if not 0 < self.n_train < self.n_pairs:
            raise ValueError(
                f"train_fraction must leave a pair for training and one for the test, got "
                f"{train_fraction} of {self.n_pairs} pairs."
            )

    @property
    def n_pairs(self) -> int:
        """Pairs in both splits."""
        return self.modulus * (self.modulus - (self.operation == DIVIDE))

    @property
    def n_train(self) -> int:
        """Pairs that train."""
        return int(self.train_fraction * self.n_pairs)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits, each listed by a, then b (the fast forward of nets likes that order)."""
        pairs = torch.cartesian_prod(*[torch.arange(self.modulus)] * 2)
        a, b = pairs.unbind(1)
        if self.operation == DIVIDE:
            pairs, results = _quotients(pairs, self.modulus)
            a, b = pairs.unbind(1)
        else:
            results = OPERATIONS[self.operation](a, b) % self.modulus
        everything = Split(self._encode(a, b), results)
        order = shuffled(len(pairs), self.split, self.seed)
        train, test = order[: self.n_train].sort().values, order[self.n_train :].sort().values
        return everything[train], everything[test]

    def _encode(self, a: Tensor, b: Tensor) -> Tensor:
        if self.encoding == "tokens":
            return torch.stack([a, b, torch.full_like(a, self.modulus)], dim=1)
        if self.encoding == "pairs":
            return torch.stack([a, b], dim=1)
        return torch.cat([F.one_hot(a, self.modulus), F.one_hot(b, self.modulus)], dim=1).float()


def _quotients(pairs: Tensor, modulus: int) -> tuple[Tensor, Tensor]:
    """The pairs (a, b) with b != 0, listed by a and then b, and a / b."""
    x, y = pairs[pairs[:, 1] > 0].unbind(1)
    a = x * y % modulus
    order = (a * modulus + y).argsort()
    return torch.stack([a, y], dim=1)[order], x[order]


def shuffled(n: int, method: str, seed: int) -> Tensor:
    """Row numbers 0, ..., n - 1 in the order of the generator ``method``, python or torch."""
    if method == "python":
        order = list(range(n))
        random.Random(seed).shuffle(order)
        return torch.tensor(order)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
