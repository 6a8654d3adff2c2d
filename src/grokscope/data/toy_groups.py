"""Small tables of a binary operation, learned through embeddings: addition and permutations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement, permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_choice, require_int

Table = tuple[NDArray[np.int64], NDArray[np.int64]]


def _addition(size: int) -> Table:
    """Unordered pairs i <= j and i + j."""
    pairs = np.array(list(combinations_with_replacement(range(size), 2)))
    return pairs, pairs.sum(axis=1)


def _modular_addition(size: int) -> Table:
    """Unordered pairs i <= j and i + j mod size."""
    pairs, sums = _addition(size)
    return pairs, sums % size


def _permutations(size: int) -> Table:
    """Ordered pairs of permutations in lexicographic order, and c[i] = b[a[i]]."""
    elements = list(permutations(range(size)))
    number = {element: i for i, element in enumerate(elements)}
    pairs = np.array(list(product(range(len(elements)), repeat=2)))
    both = ((elements[a], elements[b]) for a, b in pairs)
    return pairs, np.array([number[tuple(b[i] for i in a)] for a, b in both])


TASKS: dict[str, Callable[[int], Table]] = {
    "addition": _addition,
    "modular_addition": _modular_addition,
    "permutations": _permutations,
}
TARGETS = ("templates", "classes")
_LARGEST = {"addition": 200, "modular_addition": 200, "permutations": 5}


def pair_table(task: str, size: int) -> Table:
    """All samples of a task.

    Args:
        task: One of :data:`TASKS`.
        size: Symbols that are added, or items that are permuted.

    Returns:
        ``pairs`` (s, 2) and ``answers`` (s,), both int64: 55 samples and 19 answers for the
        addition of 10 symbols, 36 and 6 for permutations of 3 items.

    Raises:
        ValueError: For another task, or a size that is not 2 up to 200 (5 items).
    """
    require_choice("task", task, TASKS)
    require_int("size", size, minimum=2, maximum=_LARGEST[task])
    return TASKS[task](size)


def templates(task: str, size: int, target_dim: int, seed: int) -> Tensor:
    """The fixed random vector of each answer, N(0, I): float32 (answers, target_dim).

    They are the first draws of ``numpy.random.RandomState(seed)``, as in the released code.
    """
    n_answers = int(pair_table(task, size)[1].max()) + 1
    values = np.random.RandomState(seed).normal(0, 1, size=(n_answers, target_dim))
    return torch.from_numpy(values).float()


class ToyGroupDataModule(TensorDataModule):
    """A table of pairs of symbols and their result, a random part of which trains.

    ``inputs`` (n, 2) are the numbers of the two symbols. ``targets`` are the fixed random
    vector of the answer, (n, target_dim) float32, or its number, (n,) int64.

    Attributes:
        pairs: (s, 2) int64, all samples; there after ``setup``, as are the next two.
        answers: (s,) int64.
        train_rows: (n_train,) int64, the samples that train, in the order of drawing.

    Args:
        task: ``addition``: unordered pairs i <= j of ``size`` symbols and i + j.
            ``modular_addition``: the same modulo ``size``. ``permutations``: ordered pairs
            (a, b) of the permutations of ``size`` items and c[i] = b[a[i]].
        size: Symbols, or items.
        n_train: Samples that train.
        targets: ``templates`` (regression) or ``classes``.
        target_dim: Length of the templates. With ``classes`` the released code draws
            templates as long as there are answers, and so does this.
        seed: Seeds templates and split.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.

    Raises:
        ValueError: For a wrong argument.

    Source:
        Liu et al. 2022, arXiv:2205.10343; numbers are drawn as in
        ejmichaud/grokking-squared:toy/train_add.py and toy/Figure5d_permutation.ipynb:
        ``np.random.seed``, templates, ``np.random.choice`` without replacement.
    """

    pairs: Tensor
    answers: Tensor
    train_rows: Tensor

    def __init__(
        self,
        task: str = "addition",
        size: int = 10,
        n_train: int = 45,
        targets: str = "templates",
        target_dim: int = 30,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        n_samples = len(pair_table(task, size)[1])
        self.task, self.size = task, size
        self.n_train = require_int("n_train", n_train, maximum=n_samples - 1)
        self.targets = require_choice("targets", targets, TARGETS)
        self.target_dim = require_int("target_dim", target_dim)

    def make_splits(self) -> tuple[Split, Split]:
        """Draw the samples that train; the others test, in the order of the table."""
        pairs, answers = pair_table(self.task, self.size)
        self.pairs, self.answers = torch.from_numpy(pairs), torch.from_numpy(answers)
        self.train_rows = torch.from_numpy(self._drawn(answers))
        rest = torch.ones(len(answers), dtype=torch.bool)
        rest[self.train_rows] = False
        everything = Split(self.pairs, self._encoded())
        return everything[self.train_rows], everything[rest.nonzero()[:, 0]]

    def _drawn(self, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The split's draws, which in the released code come after those of the templates."""
        n_answers = int(answers.max()) + 1
        width = self.target_dim if self.targets == "templates" else n_answers
        rng = np.random.RandomState(self.seed)
        rng.normal(0, 1, size=(n_answers, width))
        return rng.choice(len(answers), self.n_train, replace=False)

    def _encoded(self) -> Tensor:
        if self.targets == "classes":
            return self.answers
        return templates(self.task, self.size, self.target_dim, self.seed)[self.answers]
