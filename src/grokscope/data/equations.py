"""Equations as token sequences, split and corrupted as by Power et al. 2022."""

from __future__ import annotations

import math

import numpy as np
import torch

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.operators import (
    PUBLISHED_MODULUS,
    Rows,
    count_equations,
    equations,
    vocabulary,
)
from grokscope.validation import require_choice, require_float, require_int

LARGEST_BATCH = 512


class EquationDataModule(TensorDataModule):
    """All equations of an operator; a random part trains, the rest tests.

    ``inputs`` (n, length - 1) int64 are all tokens of an equation but the last, the answer
    included; ``targets`` (n, k + 1) are what follows "=": the k tokens of the answer, 1 but for
    lists, and the end of sentence. So a causal net with logits at the last k + 1 positions is
    asked for the answer and, knowing it, for the end.

    With ``label_noise`` there are two more splits, of the rows with random answers: ``noisy``
    with these answers, and ``noisy_true`` with the right ones (``model.extra_splits``).

    Args:
        operator: Name in :data:`~grokscope.data.operators.OPERATORS`.
        train_fraction: ``round(train_fraction * n)`` equations train.
        label_noise: Equations at the head of the training set that get the answer of another.
        noise_from: Whose answers: of ``all`` equations (the released code), or of the
            ``train`` split (the paper). Drawn with replacement.
        batch_size: Equations an optimizer step sees: ``auto`` is the code's ``min(512,
            ceil(n_train / 2))``, null the full training set, below 1 a share of it.
        modulus: 97 in the code.
        operand_length: Numbers in the operand of ``sort``, ``reverse`` and ``copy``.
        n_equations: Keep only so many, after the shuffle; null is all. Ours, for the lists.
        split_seed: Seeds the split and the label noise: always 0 in the code.
        seed: Seeds the order of the mini-batches (``torch.randperm`` in the code).

    Raises:
        ValueError: For a wrong argument.

    Source:
        Power et al. 2022, arXiv:2201.02177; openai/grok:grok/data.py (commit 3d64b1d).
    """

    def __init__(
        self,
        operator: str = "divide",
        train_fraction: float = 0.5,
        label_noise: int = 0,
        noise_from: str = "all",
        batch_size: str | float | int | None = "auto",
        modulus: int = PUBLISHED_MODULUS,
        operand_length: int = 1,
        n_equations: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
    ) -> None:
        n = count_equations(operator, modulus, operand_length)
        if n_equations is not None:
            n = require_int("n_equations", n_equations, minimum=2, maximum=n)
        require_float("train_fraction", train_fraction, above=0.0, below=1.0)
        self.n_equations, self.n_train = n, round(n * train_fraction)
        if not 0 < self.n_train < n:
            raise ValueError(
                f"train_fraction must leave an equation for training and one for the test, got "
                f"{train_fraction} of {n} equations."
            )
        super().__init__(_batch_size(batch_size, self.n_train), seed)
        self.operator, self.modulus, self.operand_length = operator, modulus, operand_length
        self.label_noise = require_int("label_noise", label_noise, minimum=0, maximum=self.n_train)
        self.noise_from = require_choice("noise_from", noise_from, ("all", "train"))
        self.split_seed = require_int("split_seed", split_seed, minimum=0, maximum=2**32 - 1)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token."""
        return vocabulary(self.modulus)

    def make_splits(self) -> tuple[Split, Split]:
        """Shuffle, keep, corrupt, split."""
        rows, n_answer = equations(self.operator, self.modulus, self.operand_length)
        rng = np.random.RandomState(self.split_seed)
        order = np.arange(len(rows))
        rng.shuffle(order)
        right = rows[order[: self.n_equations]]
        given, asked = right.copy(), slice(-n_answer - 1, None)
        if self.label_noise:
            pool = self.n_train if self.noise_from == "train" else self.n_equations
            drawn = rng.choice(pool, size=self.label_noise)
            given[: self.label_noise, asked] = right[drawn, asked]
            self.extra["noisy"] = _split(given[: self.label_noise], asked)
            self.extra["noisy_true"] = _split(right[: self.label_noise], asked)
        return _split(given[: self.n_train], asked), _split(given[self.n_train :], asked)


def _split(rows: Rows, asked: slice) -> Split:
    tokens = torch.from_numpy(rows)
    return Split(tokens[:, :-1].contiguous(), tokens[:, asked].contiguous())


def _batch_size(given: str | float | int | None, n_train: int) -> int | None:
    """The number of equations that is meant; None for the full training set."""
    if given is None:
        return None
    if given == "auto":
        size = min(LARGEST_BATCH, math.ceil(n_train / 2))
    elif isinstance(given, float):
        share = require_float("batch_size", given, above=0.0, below=1.0)
        size = math.ceil(share * n_train)
    elif isinstance(given, str):
        raise ValueError(f"batch_size must be auto, null, a share or a number, got {given!r}.")
    else:
        size = require_int("batch_size", given)
    return None if size >= n_train else size
