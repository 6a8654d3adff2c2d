"""The matrix of per-sample gradients without writing it out: its products and Gram matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from grokscope.gradients.forms import Form, Token
from grokscope.gradients.network import Network
from grokscope.gradients.products import Pair, add_gram, with_shared_inputs

BLOCK = 384
DENSE_LIMIT = 2**30
Forms = list[Form | None]


@runtime_checkable
class Source(Protocol):
    """What makes the factors of some samples at a time (:mod:`grokscope.gradients.capture`).

    Attributes:
        network: The net.
        unstructured: Numbers of the parameters whose gradients are written out.
        max_bytes: Memory for activations and factors.
        rows_a_sample: Rows of A that a sample has.
        slices: The samples of each chunk, in order.
    """

    network: Network
    unstructured: set[int]
    max_bytes: int
    rows_a_sample: int

    @property
    def slices(self) -> list[slice]: ...  # noqa: D102

    def forms(self, rows: slice) -> Forms: ...  # noqa: D102


class Factors:
    """The matrix A (n, m) of per-sample gradients, in factor form.

    Everything is float64 and on the device of the net. Rows follow the samples, columns the
    parameters in the order of :attr:`layout`; a layer's columns are those of its parameters.

    Attributes:
        n_samples: n. Of a neural tangent kernel over all outputs, samples times outputs.
        layout: Where each parameter lies among the m columns.
        layers: Names of the layers.
        resident: Whether the factors are kept; if not, they are computed again when needed.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.layout = source, source.network.layout
        self.layers = self.layout.layers
        self._device = source.network.parameters[0].device
        self._slices = source.slices
        self.n_samples = self._slices[-1].stop * source.rows_a_sample
        self._kept: dict[int, Forms] = {0: source.forms(self._slices[0])}
        taken = sum(form.n_bytes for form in self._kept[0] if form is not None)
        self.resident = taken * len(self._slices) <= source.max_bytes // 2
        self.forms = {
            slot.name: "generic" if p in source.unstructured else _name(self._kept[0][p])
            for p, slot in enumerate(self.layout.slots)
        }

    def gram(
        self,
        layer: str | None = None,
        *,
        centered: bool = False,
        products: torch.dtype = torch.float64,
    ) -> Tensor:
        r"""K = A Aᵀ (n, n), not divided by n; of one layer's columns, or of all.

        .. math:: K_{ij} = \sum_{ts} (\delta_{it} \cdot \delta_{js}) (x_{it} \cdot x_{js})

        summed over the layers' parameters; the non-zero eigenvalues of K / n are those of the
        GOP AᵀA / n. O(n² t² (i + o)) operations a layer for t positions of an (o, i) weight, or
        O(n² i o) where that is less.

        Args:
            layer: One of :attr:`layers`; None for the whole.
            centered: Of the rows less their mean: the spectrum of the covariance.
            products: Precision of the products and sums. float32 is faster and has an error of
                about 1e-7 of the largest eigenvalue; smaller eigenvalues are noise then.
        """
        wanted, settings = self._parameters(layer), (self.source.max_bytes // 32, products)
        gram = torch.zeros(
            self.n_samples, self.n_samples, dtype=torch.float64, device=self._device
        )
        for k in range(len(self._slices)):
            chunk = self._chunk(k)
            for other in range(k, len(self._slices)):
                column = chunk if other == k else self._chunk(other)
                forms = [(chunk[p], column[p]) for p in wanted]
                both = [(a, b) for a, b in forms if a is not None and b is not None]
                block = gram[self._rows(k), self._rows(other)]
                _add_chunks(block, with_shared_inputs(both), k == other, *settings)
        _mirror(gram)
        return _centered(gram) if centered else gram

    def sample_norms(self, layer: str | None = None) -> Tensor:
        """Norms (n,) of the per-sample gradients, without K."""
        parts = []
        for k in range(len(self._slices)):
            rows = self._rows(k)
            square = torch.zeros(rows.stop - rows.start, dtype=torch.float64, device=self._device)
            for form in self._present(k, layer):
                square += form.square_norms()
            parts.append(square)
        return torch.cat(parts).clamp_min(0).sqrt()

    def mean_gradient(self, layer: str | None = None) -> Tensor:
        """Mean (m,) of the per-sample gradients: the gradient of the mean loss."""
        share = torch.full((self.n_samples,), 1 / self.n_samples, dtype=torch.float64)
        return self.vjp(share, layer)

    def vjp(self, u: Tensor, layer: str | None = None) -> Tensor:
        """Aᵀu (m,) of one vector (n,), or (k, m) of several (k, n): gradients of weighted sums."""
        weights = self._vectors("u", u, self.n_samples)
        slots = [self.layout.slots[p] for p in self._parameters(layer)]
        found = [weights.new_zeros(len(weights), slot.size) for slot in slots]
        for k in range(len(self._slices)):
            chunk = self._chunk(k)
            for into, p in zip(found, self._parameters(layer), strict=True):
                if (form := chunk[p]) is not None:
                    into += form.weighted(weights[:, self._rows(k)])
        return torch.cat(found, dim=1).view(*u.shape[:-1], -1)

    def jvp(self, v: Tensor, layer: str | None = None) -> Tensor:
        """A v (n,) of one vector (m,), or (k, n) of several (k, m): derivatives along v."""
        sizes = [self.layout.slots[p].size for p in self._parameters(layer)]
        vectors = self._vectors("v", v, sum(sizes))
        parts = vectors.split(sizes, dim=1)
        found = vectors.new_zeros(len(vectors), self.n_samples)
        for k in range(len(self._slices)):
            chunk = self._chunk(k)
            for part, p in zip(parts, self._parameters(layer), strict=True):
                if (form := chunk[p]) is not None:
                    found[:, self._rows(k)] += form.times(part)
        return found.view(*v.shape[:-1], -1)

    def dense(self, layer: str | None = None, max_bytes: int = DENSE_LIMIT) -> Tensor:
        """A itself (n, m).

        Raises:
            ValueError: If it takes more than ``max_bytes``.
        """
        wanted = self._parameters(layer)
        sizes = [self.layout.slots[p].size for p in wanted]
        if (needed := 8 * self.n_samples * sum(sizes)) > max_bytes:
            raise ValueError(
                f"max_bytes must be >= {needed:,} for the dense {self.n_samples} x {sum(sizes)} "
                f"matrix of per-sample gradients, got {max_bytes:,}."
            )
        matrix = torch.zeros(self.n_samples, sum(sizes), dtype=torch.float64, device=self._device)
        for k in range(len(self._slices)):
            chunk = self._chunk(k)
            for into, p in zip(matrix[self._rows(k)].split(sizes, dim=1), wanted, strict=True):
                if (form := chunk[p]) is not None:
                    into.copy_(form.rows())
        return matrix

    def _parameters(self, layer: str | None) -> list[int]:
        """Numbers of a layer's parameters."""
        if layer is not None and layer not in self.layers:
            raise ValueError(f"layer must be one of {', '.join(self.layers)}, got {layer!r}.")
        slots = enumerate(self.layout.slots)
        return [p for p, slot in slots if layer is None or slot.layer == layer]

    def _vectors(self, name: str, given: Tensor, length: int) -> Tensor:
        """(k, length) float64."""
        if given.dim() not in (1, 2) or given.shape[-1] != length:
            raise ValueError(
                f"{name} must have shape ({length},) or (k, {length}), got {tuple(given.shape)}."
            )
        return torch.atleast_2d(given).to(self._device, torch.float64)

    def _rows(self, k: int) -> slice:
        """The rows of A that a chunk makes."""
        each, part = self.source.rows_a_sample, self._slices[k]
        return slice(part.start * each, part.stop * each)

    def _present(self, k: int, layer: str | None) -> Iterator[Form]:
        chunk = self._chunk(k)
        return (form for p in self._parameters(layer) if (form := chunk[p]) is not None)

    def chunks(self) -> Iterator[Forms]:
        """For each chunk of samples the forms of all parameters."""
        return (self._chunk(k) for k in range(len(self._slices)))

    def _chunk(self, k: int) -> Forms:
        if k not in self._kept:
            if not self.resident:
                self._kept.clear()
            self._kept[k] = self.source.forms(self._slices[k])
        return self._kept[k]


def _name(form: Form | None) -> str:
    return "none" if form is None else form.name


def _add_chunks(
    gram: Tensor, pairs: list[Pair], same: bool, numbers: int, products: torch.dtype
) -> None:
    """Add the products of two chunks; of the same chunk, only blocks on and above the diagonal."""
    tokens = [pair for pair in pairs if isinstance(pair[0], Token) and isinstance(pair[1], Token)]
    others = [pair for pair in pairs if not any(pair is t for t in tokens)]
    for a, b in tokens:
        add_gram(gram, a, b, numbers)
    for rows in _blocks(gram.shape[0]):
        for columns in _blocks(gram.shape[1], rows.start if same else 0):
            block = gram[rows, columns]
            total = block if products == gram.dtype else torch.zeros_like(block, dtype=products)
            for a, b in others:
                add_gram(total, a.take(rows), b.take(columns), numbers)
            if total is not block:
                block.add_(total)


def _blocks(n: int, start: int = 0) -> Iterator[slice]:
    return (slice(k, min(k + BLOCK, n)) for k in range(start, n, BLOCK))


def _mirror(gram: Tensor) -> None:
    """Fill what lies below the diagonal from above, in place."""
    for rows in _blocks(len(gram)):
        gram[rows.stop :, rows] = gram[rows, rows.stop :].T
        corner = gram[rows, rows]
        corner.copy_(corner.triu() + corner.triu(1).T)


def _centered(gram: Tensor) -> Tensor:
    means = gram.mean(0)
    return gram.sub_(means).sub_(means[:, None]).add_(means.mean())
