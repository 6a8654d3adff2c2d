"""How the per-sample gradients of one parameter are held: rows of A without writing them out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Outer:
    r"""Sums of outer products, :math:`\sum_t \delta_{it} \otimes x_{it}` for sample i.

    Attributes:
        left: (n, g, t, o).
        right: (n, g, t, i).
        index: (g, o, i) place of each entry in the flat parameter, on the CPU; None if in order.
        size: Entries of the parameter.
    """

    left: Tensor
    right: Tensor
    index: Tensor | None
    size: int
    name = "outer"

    def __len__(self) -> int:
        return len(self.left)

    @property
    def n_bytes(self) -> int:  # noqa: D102
        return self.left.nbytes + self.right.nbytes

    def take(self, rows: slice) -> Outer:
        """Some of the samples."""
        return replace(self, left=self.left[rows], right=self.right[rows])

    def live(self) -> Outer:
        """Without the positions that have no gradient in any sample."""
        keep = (self.left != 0).any(-1).any(1).any(0)
        if bool(keep.all()):
            return self
        return replace(self, left=self.left[:, :, keep], right=self.right[:, :, keep])

    def swapped(self) -> Outer:
        """The same gradients with the two factors exchanged."""
        _, g, _, o = self.left.shape
        index = self.index
        if index is None:
            index = torch.arange(self.size).view(g, o, -1)
        return Outer(self.right, self.left, index.mT.contiguous(), self.size)

    def entries(self) -> Tensor:
        """(n, g * o * i) float64, in its own order."""
        return (self.left.double().mT @ self.right.double()).flatten(1)

    def rows(self) -> Tensor:
        """(n, size) float64: A itself."""
        return _place(self.entries(), self.index, self.size)

    def square_norms(self) -> Tensor:
        """(n,) squared norms of the rows."""
        left, right = self.left.double(), self.right.double()
        return ((left @ left.mT) * (right @ right.mT)).sum((1, 2, 3))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """(n,) @ A: (size,), in the precision of the factors."""
        left = self.left * weights.to(self.left)[:, None, None, None]
        left, right = (x.transpose(0, 1).flatten(1, 2) for x in (left, self.right))
        return _place((left.mT @ right).reshape(1, -1), self.index, self.size)[0]

    def weighted(self, u: Tensor) -> Tensor:
        """(k, n) @ A: (k, size)."""
        right = self.right.double().transpose(0, 1).flatten(1, 2)
        sums = []
        for weights in u:
            left = (weights[:, None, None, None] * self.left).transpose(0, 1).flatten(1, 2)
            sums.append((left.mT @ right).flatten())
        return _place(torch.stack(sums), self.index, self.size)

    def times(self, v: Tensor) -> Tensor:
        """(k, size) @ A^T: (k, n)."""
        (_, g, _, o), i = self.left.shape, self.right.shape[-1]
        matrices = _pick(v, self.index).view(-1, g, o, i)
        left, right = self.left.double(), self.right.double()
        return torch.stack([((left @ m) * right).sum((1, 2, 3)) for m in matrices])


@dataclass(frozen=True)
class Token:
    r"""Rows of a table: :math:`\sum_t e_{token_{it}} \otimes \delta_{it}` for sample i.

    Attributes:
        token: (n, t) int64 row of the table.
        delta: (n, t, d).
        index: (v, d) place of each entry in the flat parameter; None if in order.
        size: Entries of the parameter.
    """

    token: Tensor
    delta: Tensor
    index: Tensor | None
    size: int
    name = "token"

    def __len__(self) -> int:
        return len(self.token)

    @property
    def n_bytes(self) -> int:  # noqa: D102
        return self.token.nbytes + self.delta.nbytes

    @property
    def vocabulary(self) -> int:
        """Rows of the table."""
        return self.size // self.delta.shape[-1] if self.index is None else len(self.index)

    def take(self, rows: slice) -> Token:
        """Some of the samples."""
        return replace(self, token=self.token[rows], delta=self.delta[rows])

    def live(self) -> Token:
        """Without the positions that have no gradient in any sample."""
        keep = (self.delta != 0).any(-1).any(0)
        if bool(keep.all()):
            return self
        return replace(self, token=self.token[:, keep], delta=self.delta[:, keep])

    def outer(self) -> Outer:
        """The same with the tokens written as one-hot vectors."""
        hot = functional.one_hot(self.token, self.vocabulary).to(self.delta.dtype)
        index = None if self.index is None else self.index[None]
        return Outer(hot[:, None], self.delta[:, None], index, self.size)

    def rows(self) -> Tensor:
        """(n, size) float64: A itself."""
        n, _, d = self.delta.shape
        table = self.delta.new_zeros(n * self.vocabulary, d, dtype=torch.float64)
        flat = torch.arange(n, device=table.device)[:, None] * self.vocabulary + self.token
        table.index_add_(0, flat.flatten(), self.delta.double().flatten(0, 1))
        return _place(table.view(n, -1), self.index, self.size)

    def square_norms(self) -> Tensor:
        """(n,) squared norms of the rows."""
        delta = self.delta.double()
        same = self.token[:, :, None] == self.token[:, None, :]
        return ((delta @ delta.mT) * same).sum((1, 2))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """(n,) @ A: (size,), in the precision of the factors."""
        delta = self.delta * weights.to(self.delta)[:, None, None]
        table = delta.new_zeros(self.vocabulary, delta.shape[-1])
        table.index_add_(0, self.token.flatten(), delta.flatten(0, 1))
        return _place(table.view(1, -1), self.index, self.size)[0]

    def weighted(self, u: Tensor) -> Tensor:
        """(k, n) @ A: (k, size)."""
        sums = []
        for weights in u:
            table = u.new_zeros(self.vocabulary, self.delta.shape[-1])
            values = (weights[:, None, None] * self.delta).flatten(0, 1)
            sums.append(table.index_add_(0, self.token.flatten(), values).flatten())
        return _place(torch.stack(sums), self.index, self.size)

    def times(self, v: Tensor) -> Tensor:
        """(k, size) @ A^T: (k, n)."""
        tables = _pick(v, self.index).view(len(v), self.vocabulary, -1)
        return torch.stack([(t[self.token] * self.delta.double()).sum((1, 2)) for t in tables])


@dataclass(frozen=True)
class Rows:
    """The gradients themselves.

    Attributes:
        values: (n, entries).
        index: (entries,) place of each in the flat parameter; None if in order.
        size: Entries of the parameter.
    """

    values: Tensor
    index: Tensor | None
    size: int
    name = "rows"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_bytes(self) -> int:  # noqa: D102
        return self.values.nbytes

    def take(self, rows: slice) -> Rows:
        """Some of the samples."""
        return replace(self, values=self.values[rows])

    def live(self) -> Rows:
        """Itself: there are no positions."""
        return self

    def rows(self) -> Tensor:
        """(n, size) float64: A itself."""
        return _place(self.values.double(), self.index, self.size)

    def square_norms(self) -> Tensor:
        """(n,) squared norms of the rows."""
        return self.values.double().square().sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """(n,) @ A: (size,), in the precision of the factors."""
        total = weights.to(self.values)[None] @ self.values
        return _place(total, self.index, self.size)[0]

    def weighted(self, u: Tensor) -> Tensor:
        """(k, n) @ A: (k, size)."""
        return _place(u @ self.values.double(), self.index, self.size)

    def times(self, v: Tensor) -> Tensor:
        """(k, size) @ A^T: (k, n)."""
        return _pick(v, self.index) @ self.values.double().mT


Form = Outer | Token | Rows


def _place(values: Tensor, index: Tensor | None, size: int) -> Tensor:
    """(k, entries) put into (k, size), added where an entry comes twice."""
    if index is None:
        return values
    places = index.flatten().to(values.device)
    return values.new_zeros(len(values), size).index_add_(1, places, values)


def _pick(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values[:, index.flatten().to(values.device)]
