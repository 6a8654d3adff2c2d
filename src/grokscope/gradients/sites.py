"""What a use of a parameter looks like, and the per-sample gradient it leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from grokscope.gradients.forms import Form, Outer, Rows, Token


@dataclass(frozen=True)
class View:
    """A parameter, or entries of it that were selected and rearranged.

    Attributes:
        parameter: Its number.
        size: Entries of the whole parameter.
        shape: Of this view.
        entries: Place of each entry of the view in the flat parameter; None for all in order.
    """

    parameter: int
    size: int
    shape: tuple[int, ...]
    entries: Tensor | None = None

    def ids(self) -> Tensor:
        """:attr:`entries`, written out."""
        if self.entries is not None:
            return self.entries
        return torch.arange(self.size).view(self.shape)


@dataclass(frozen=True)
class SampleDim:
    """The dimension of a tensor that counts samples, alone or times a number of positions.

    Attributes:
        dim: Which one.
        fold: Entries a sample in it; more than one where samples and positions lie in one
            dimension.
        minor: Whether they lie there position by position, not sample by sample.
    """

    dim: int
    fold: int = 1
    minor: bool = False

    def counts(self, tensor: Tensor, n_samples: int) -> bool:
        """Whether the dimension is there and has the size that so many samples make."""
        return self.dim < tensor.dim() and tensor.shape[self.dim] == n_samples * self.fold

    def front(self, tensor: Tensor) -> Tensor:
        """(..., n * fold, ...) as (n, ..., fold, ...)."""
        n = tensor.shape[self.dim] // self.fold
        if self.minor:
            return tensor.unflatten(self.dim, (self.fold, n)).movedim(self.dim + 1, 0)
        return tensor.unflatten(self.dim, (n, self.fold)).movedim(self.dim, 0)

    def other_order(self) -> SampleDim:
        """The same with positions and samples exchanged where they share the dimension."""
        return replace(self, minor=self.fold > 1)


@dataclass(frozen=True)
class Contraction:
    """``y = einsum(x, W)``; the letters name the dimensions."""

    view: View
    x: Tensor
    letters: tuple[str, str, str]
    samples: tuple[SampleDim, SampleDim]

    @cached_property
    def _order(self) -> tuple[str, str, str]:
        """Letters of W: shared by all three, with y only, with x only."""
        x, w, y = self.letters
        return (
            "".join(c for c in w if c in x and c in y),
            "".join(c for c in w if c in y and c not in x),
            "".join(c for c in w if c in x and c not in y),
        )

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        size = dict(zip(self.letters[1], self.view.shape, strict=True))
        g, o, i = (prod(size[c] for c in part) for part in self._order)
        return g, o, i

    @cached_property
    def index(self) -> Tensor | None:
        """(g, o, i) places in the flat parameter; None if in order."""
        order = [self.letters[1].index(c) for c in "".join(self._order)]
        if self.view.entries is None and order == sorted(order):
            return None
        return self.view.ids().permute(order).reshape(self._sizes)

    def form(self, delta: Tensor) -> Form:
        """From the gradient at y."""
        x_letters, w, y = self.letters
        x, delta = self.samples[0].front(self.x), self.samples[1].front(delta)
        alone = [1 + d for d, c in enumerate(x_letters) if c not in w and c not in y]
        x = x.sum(alone) if alone else x
        x_letters = "".join(c for c in x_letters if c in w or c in y)
        shared, outputs, inputs = self._order
        positions = "".join(c for c in x_letters if c not in w)
        n, g = len(x), self._sizes[0]
        order = [1 + y.index(c) for c in shared + positions + outputs]
        left = delta.permute(0, *order).reshape(n, g, -1, self._sizes[1])
        order = [1 + x_letters.index(c) for c in shared + positions + inputs]
        right = x.permute(0, *order).reshape(n, g, -1, self._sizes[2])
        return Outer(left, right, self.index, self.view.size)


@dataclass(frozen=True)
class Convolution:
    """``y = conv(x, W)`` in one or two dimensions; ``x`` is padded already."""

    view: View
    x: Tensor
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    samples: tuple[SampleDim, SampleDim]

    @property
    def index(self) -> Tensor | None:
        """(g, o, i) places in the flat parameter; None if in order."""
        ids = self.view.entries
        return None if ids is None else ids.reshape(self.groups, len(ids) // self.groups, -1)

    def form(self, delta: Tensor) -> Form:
        """From the gradient at y: positions are output pixels."""
        x, kernel = self.x, self.view.shape[2:]
        stride, dilation = self.stride, self.dilation
        if len(kernel) == 1:
            x, kernel = x.unsqueeze(-2), (1, *kernel)
            stride, dilation = (1, *stride), (1, *dilation)
        patches = functional.unfold(x, kernel, dilation=dilation, stride=stride)
        n, g = len(x), self.groups
        right = self._by_sample(patches.view(n, g, -1, patches.shape[-1]).mT)
        left = self._by_sample(delta.reshape(n, g, delta.shape[1] // g, -1).mT)
        return Outer(left, right, self.index, self.view.size)

    def _by_sample(self, images: Tensor) -> Tensor:
        """(n * fold, g, pixels, d) as (n, g, fold * pixels, d)."""
        return self.samples[0].front(images).movedim(1, 2).flatten(2, 3)


@dataclass(frozen=True)
class Lookup:
    """``y = W[token]`` along one dimension of W."""

    view: View
    token: Tensor
    dim: int
    samples: tuple[SampleDim, SampleDim]
    padding: int | None = None

    @cached_property
    def index(self) -> Tensor | None:
        """(v, d) places in the flat parameter; None if in order."""
        if self.view.entries is None and self.dim == 0:
            return None
        return self.view.ids().movedim(self.dim, 0).reshape(self.view.shape[self.dim], -1)

    def form(self, delta: Tensor) -> Form:
        """From the gradient at y."""
        token, wide = self.samples[0].front(self.token), len(self.view.shape) - 1
        delta = self.samples[1].front(delta).flatten(1 + self.dim, self.dim + token.dim() - 1)
        delta = delta.movedim(1 + self.dim, 1)
        token, delta = token.flatten(1), delta.flatten(2) if wide else delta[..., None]
        if self.padding is not None:
            delta = delta * (token != self.padding)[..., None]
        return Token(token, delta, self.index, self.view.size)


@dataclass(frozen=True)
class Elementwise:
    """``y = x + W`` or ``y = x * W`` with W broadcast; what is left of y is summed.

    Attributes:
        factor: Of each entry of y: a number, or a tensor that broadcasts to y.
        keep: The dimensions of y that are those of W, where W is longer than one.
    """

    view: View
    factor: Tensor | float
    keep: tuple[int, ...]
    samples: SampleDim

    @property
    def index(self) -> Tensor | None:
        """Places in the flat parameter; None if in order."""
        return None if self.view.entries is None else self.view.entries.flatten()

    def form(self, delta: Tensor) -> Form:
        """From the gradient at y."""
        values = self.samples.front(delta * self.factor)
        drop = [1 + d for d in range(delta.dim()) if d not in self.keep]
        values = values.sum(drop) if drop else values
        return Rows(values.reshape(len(values), -1), self.index, self.view.size)


Site = Contraction | Convolution | Lookup | Elementwise


def in_other_order(site: Site) -> Site:
    """A site whose folded dimensions hold the samples of each position together."""
    if isinstance(site, Elementwise):
        return replace(site, samples=site.samples.other_order())
    x, y = site.samples
    return replace(site, samples=(x.other_order(), y.other_order()))


def kept_dims(shape: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    """Dimensions of ``y`` along which a tensor of ``shape`` broadcast to it is longer than 1."""
    lead = len(y) - len(shape)
    return tuple(lead + d for d, size in enumerate(shape) if size != 1)
