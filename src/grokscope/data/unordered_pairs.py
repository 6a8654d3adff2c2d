"""Tables of commutative operations modulo p, each unordered pair once."""

from __future__ import annotations

import random

import torch

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.modular import OPERATIONS
from grokscope.validation import require_bool, require_choice, require_float, require_int


class UnorderedPairsDataModule(TensorDataModule):
    """Pairs of two tokens (a, b) with a <= b and c = a ∘ b mod p; some train, the rest test.

    ``inputs`` (n, 2) int64, ``targets`` (n,) int64. A net that sums the tokens' embeddings
    cannot tell (a, b) from (b, a), so ordered pairs would leak from one split to the other.

    Args:
        modulus: p.
        operation: ``add``, ``subtract``, ``multiply`` or ``x2_xy_y2`` (a² + ab + b²).
        train_fraction: ``int(train_fraction * n)`` pairs train.
        diagonal: Whether pairs (a, a) are among them: p (p + 1) / 2 pairs with, p (p - 1) / 2
            without.
        seed: Of ``random.shuffle``, which splits the pairs listed by a and then b.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.

    Raises:
        ValueError: For a wrong argument.

    Source:
        Minegishi et al. 2023, arXiv:2310.19470: the code lists a <= b, 2278 pairs at p = 67; the
        paper counts 2211, those without the diagonal.
    """

    def __init__(
        self,
        modulus: int = 67,
        operation: str = "add",
        train_fraction: float = 0.4,
        diagonal: bool = True,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        self.modulus = require_int("modulus", modulus, minimum=2, maximum=10_000)
        self.operation = require_choice("operation", operation, OPERATIONS)
        self.train_fraction = require_float("train_fraction", train_fraction, above=0.0, below=1.0)
        self.diagonal = require_bool("diagonal", diagonal)
        if not 0 < self.n_train < self.n_pairs:
            raise ValueError(
                f"train_fraction must leave a pair for training and one for the test, got "
                f"{train_fraction} of {self.n_pairs} pairs."
            )

    @property
    def n_pairs(self) -> int:
        """Pairs of both splits."""
        return self.modulus * (self.modulus + (1 if self.diagonal else -1)) // 2

    @property
    def n_train(self) -> int:
        """Pairs that train."""
        return int(self.train_fraction * self.n_pairs)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits, each listed by a, then b."""
        offset = 0 if self.diagonal else 1
        pairs = torch.triu_indices(self.modulus, self.modulus, offset).t().contiguous()
        a, b = pairs.unbind(1)
        everything = Split(pairs, OPERATIONS[self.operation](a, b) % self.modulus)
        order = list(range(self.n_pairs))
        random.Random(self.seed).shuffle(order)
        rows = torch.tensor(order)
        train, test = rows[: self.n_train].sort().values, rows[self.n_train :].sort().values
        return everything[train], everything[test]
