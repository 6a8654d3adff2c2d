"""Modular arithmetic of which some training labels are wrong."""

from __future__ import annotations

import torch

from grokscope.data.base import Split
from grokscope.data.modular import OPERATIONS, ModularDataModule, shuffled
from grokscope.validation import require_choice, require_float, require_int


class CorruptedModularDataModule(ModularDataModule):
    """A table of a ∘ b mod p whose first shuffled training pairs get labels drawn at random.

    ``int(corruption * n_train)`` training labels are replaced by uniform ones of 0, ..., p - 1,
    so one in p of them is right by chance, and counts as corrupted all the same. Test labels are
    never touched. With ``split="python"``, ``seed=420`` and ``label_seed=0`` the data are those of
    the released notebook.

    Further splits (:attr:`extra`), all of training pairs: ``clean`` and ``corrupted``, with the
    labels trained on, and ``restored``, the corrupted pairs with their true labels.

    Args:
        modulus: p.
        operation: As in :class:`~grokscope.data.ModularDataModule`, but not ``divide``; the same
            holds for ``train_fraction``, ``encoding``, ``split`` and ``batch_size``.
        corruption: Share xi of the training labels, in [0, 1).
        seed: Seeds the split and the order of mini-batches.
        label_seed: Seeds the wrong labels; None takes ``seed``.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Doshi et al. 2024, arXiv:2310.13061; d-doshi/Grokking:utils/datasets.py, noisy_dataset.
        (noisy_dataset_int there, for transformers, never draws the label p - 1.)
    """

    def __init__(
        self,
        modulus: int = 97,
        operation: str = "add",
        train_fraction: float = 0.5,
        corruption: float = 0.35,
        encoding: str = "one_hot",
        split: str = "torch",
        seed: int = 0,
        label_seed: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        require_choice("operation", operation, OPERATIONS)
        super().__init__(modulus, operation, train_fraction, encoding, split, seed, batch_size)
        self.corruption = require_float("corruption", corruption, minimum=0.0, below=1.0)
        given = seed if label_seed is None else label_seed
        self.label_seed = require_int("label_seed", given, minimum=0)

    @property
    def n_corrupted(self) -> int:
        """Training pairs whose labels are drawn."""
        return int(self.corruption * self.n_train)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits, each listed by a, then b; the splits of :attr:`extra` likewise."""
        a, b = torch.cartesian_prod(*[torch.arange(self.modulus)] * 2).unbind(1)
        truth = OPERATIONS[self.operation](a, b) % self.modulus
        order = shuffled(len(truth), self.split, self.seed)
        corrupted = order[: self.n_corrupted]
        labels = truth.clone()
        labels[corrupted] = self._labels()
        inputs = self._encode(a, b)

        def take(rows: torch.Tensor, targets: torch.Tensor) -> Split:
            rows = rows.sort().values
            return Split(inputs[rows], targets[rows])

        train, clean = order[: self.n_train], order[self.n_corrupted : self.n_train]
        self.extra = {"clean": take(clean, labels)}
        if self.n_corrupted:
            self.extra["corrupted"] = take(corrupted, labels)
            self.extra["restored"] = take(corrupted, truth)
        return take(train, labels), take(order[self.n_train :], truth)

    def _labels(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.label_seed)
        return torch.randint(self.modulus, (self.n_corrupted,), generator=generator)
