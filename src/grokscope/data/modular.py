"""Tables of binary operations modulo p."""

from __future__ import annotations

import random
from collections.abc import Callable

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
SPLITS = ("python", "torch")


class ModularDataModule(TensorDataModule):
    """All p^2 ordered pairs (a, b) and c = a ∘ b mod p; a random part trains, the rest tests.

    Args:
        modulus: p.
        operation: ``add``, ``subtract``, ``multiply`` or ``x2_xy_y2`` (a² + ab + b²).
        train_fraction: ``int(train_fraction * p^2)`` pairs train.
        encoding: ``tokens``: inputs (n, 3) int64, a, b and the token p for "=" (Nanda et al.
            2023). ``one_hot``: inputs (n, 2p), two one-hot blocks (Gromov 2023).
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
        self.operation = require_choice("operation", operation, OPERATIONS)
        self.train_fraction = require_float("train_fraction", train_fraction, above=0.0, below=1.0)
        self.encoding = require_choice("encoding", encoding, ("tokens", "one_hot"))
        self.split = require_choice("split", split, SPLITS)
        if not 0 < self.n_train < self.modulus**2:
            raise ValueError(
                f"train_fraction must leave a pair for training and one for the test, got "
                f"{train_fraction} of {self.modulus**2} pairs."
            )

    @property
    def n_train(self) -> int:
        """Pairs that train."""
        return int(self.train_fraction * self.modulus**2)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits, each listed by a, then b (the fast forward of nets likes that order)."""
        pairs = torch.cartesian_prod(*[torch.arange(self.modulus)] * 2)
        a, b = pairs.unbind(1)
        everything = Split(self._encode(a, b), OPERATIONS[self.operation](a, b) % self.modulus)
        order = _shuffled(len(pairs), self.split, self.seed)
        train, test = order[: self.n_train].sort().values, order[self.n_train :].sort().values
        return everything[train], everything[test]

    def _encode(self, a: Tensor, b: Tensor) -> Tensor:
        if self.encoding == "tokens":
            return torch.stack([a, b, torch.full_like(a, self.modulus)], dim=1)
        return torch.cat([F.one_hot(a, self.modulus), F.one_hot(b, self.modulus)], dim=1).float()


def _shuffled(n: int, method: str, seed: int) -> Tensor:
    if method == "python":
        order = list(range(n))
        random.Random(seed).shuffle(order)
        return torch.tensor(order)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
