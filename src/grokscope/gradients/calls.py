"""Torch functions that use a parameter in a way whose per-sample gradient has a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from grokscope.gradients.sites import (
    Contraction,
    Elementwise,
    Lookup,
    SampleDim,
    Site,
    View,
    kept_dims,
)


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        func: What was called.
        args: With these.
        kwargs: And with these.
        out: Its result.
        view: Tensor -> the entries of a parameter that it holds, or None.
        samples: Tensor -> the dimension of it that counts samples, or None.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Tensor
    view: Callable[[Any], View | None]
    samples: Callable[[Any], SampleDim | None]

    def arguments(self, *names: str) -> list[Any]:
        """Positional or named arguments in this order, None where absent."""
        given = dict(zip(names, self.args, strict=False)) | self.kwargs
        return [given.get(name) for name in names]


Handler = Callable[[Call], list[Site] | None]


def contraction(call: Call, a: Tensor, b: Tensor, letters: tuple[str, str, str]) -> Site | None:
    """``einsum(a, b)`` where exactly one of the two is a parameter, letters of (a, b, y)."""
    if call.view(a):
        a, b, letters = b, a, (letters[1], letters[0], letters[2])
    view, at_x, at_y = call.view(b), call.samples(a), call.samples(call.out)
    x, w, y = letters
    if view is None or call.view(a) or at_x is None or at_y is None:
        return None
    plain = all(len(set(part)) == len(part) for part in letters)
    same = x[at_x.dim] == y[at_y.dim] and x[at_x.dim] not in w
    if not plain or not same or at_x.fold != at_y.fold or set(w) - set(x) - set(y):
        return None
    return Contraction(view, a.detach(), letters, (at_x, at_y))


def elementwise(
    call: Call, weight: Tensor, factor: Tensor | float, keep: tuple[int, ...] | None = None
) -> Site | None:
    """``y = factor * weight + ...``, the weight broadcast to y."""
    view, at = call.view(weight), call.samples(call.out)
    if view is None or at is None:
        return None
    if keep is None:
        keep = kept_dims(view.shape, tuple(call.out.shape))
    return None if at.dim in keep else Elementwise(view, factor, keep, at)


def linear(call: Call) -> list[Site] | None:
    """``x @ W.T + b``."""
    x, weight, bias = call.arguments("input", "weight", "bias")
    lead, o = ascii_letters[2 : x.dim() + 1], "b" if weight.dim() == 2 else ""
    weights = contraction(call, x, weight, (lead + "a", o + "a", lead + o))
    return with_bias(call, weight, weights, bias, (call.out.dim() - 1,) if o else ())


def einsum(call: Call) -> list[Site] | None:
    """``einsum`` of two operands, one of them a parameter."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2 or "->" not in equation:
        return None
    letters = _without_ellipsis(equation.replace(" ", ""), [o.dim() for o in operands])
    return _listed(letters and contraction(call, operands[0], operands[1], letters))


def _without_ellipsis(equation: str, dims: list[int]) -> tuple[str, str, str] | None:
    """Operands' and result's letters; an ellipsis counts only where one operand has it."""
    inputs, _, output = equation.partition("->")
    parts = [*inputs.split(","), output]
    holders = [k for k in (0, 1) if "..." in parts[k]]
    if len(holders) > 1:
        return None
    if holders:
        missing = dims[holders[0]] - len(parts[holders[0]]) + 3
        unused = [c for c in ascii_letters if c not in equation]
        parts = [part.replace("...", "".join(unused[:missing])) for part in parts]
    return parts[0], parts[1], parts[2]


def matmul(call: Call) -> list[Site] | None:
    """``a @ b`` in all the forms that numpy knows."""
    a, b = call.args[:2]
    return _listed(_matmul(call, a, b))


def _matmul(call: Call, a: Tensor, b: Tensor) -> Site | None:
    names = ascii_letters[3:]
    wide = max(a.dim(), b.dim()) - 2
    batch = [names[:wide][wide - max(t.dim() - 2, 0) :] for t in (a, b)]
    for d in range(1, min(len(batch[0]), len(batch[1])) + 1):
        if a.shape[-2 - d] != b.shape[-2 - d]:
            return None
    rows = "a" if a.dim() > 1 else ""
    columns = "c" if b.dim() > 1 else ""
    parts = batch[0] + rows + "b", batch[1] + "b" + columns
    return contraction(call, a, b, (*parts, max(batch, key=len) + rows + columns))


def addmm(call: Call) -> list[Site] | None:
    """``bias + a @ b``, with or without a batch."""
    bias, a, b = call.args[:3]
    if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("beta", 1) != 1:
        return None
    sites = []
    if call.view(a) or call.view(b):
        sites.append(_matmul(call, a, b))
    if call.view(bias):
        sites.append(elementwise(call, bias, 1.0))
    return [s for s in sites if s] if all(sites) else None


def embedding(call: Call) -> list[Site] | None:
    """Rows of a table, one for each token."""
    token, weight, padding, max_norm = call.arguments("input", "weight", "padding_idx", "max_norm")
    if max_norm is not None:
        return None
    if padding is not None and padding < 0:
        padding += len(weight)
    return _listed(_lookup(call, weight, token, 0, padding))


def index_select(call: Call) -> list[Site] | None:
    """Entries along one dimension."""
    weight, dim, token = call.args
    return _listed(_lookup(call, weight, token, dim % weight.dim()))


def getitem(call: Call) -> list[Site] | None:
    """``W[:, token]``: one tensor of integers among full slices."""
    weight, key = call.args
    key = key if isinstance(key, tuple) else (key,)
    places = [d for d, part in enumerate(key) if isinstance(part, Tensor)]
    whole = all(isinstance(part, Tensor) or part == slice(None) for part in key)
    if len(places) != 1 or not whole or key[places[0]].dtype == torch.bool:
        return None
    return _listed(_lookup(call, weight, key[places[0]], places[0]))


def _lookup(
    call: Call, weight: Tensor, token: Tensor, dim: int, padding: int | None = None
) -> Site | None:
    view, at, at_y = call.view(weight), call.samples(token), call.samples(call.out)
    if view is None or at is None or at_y is None or call.view(token):
        return None
    size = view.shape[dim]
    return Lookup(view, token % size if padding is None else token, dim, (at, at_y), padding)


def add(call: Call) -> list[Site] | None:
    """``a + alpha * b``."""
    return _sum(call, call.kwargs.get("alpha", 1))


def subtract(call: Call) -> list[Site] | None:
    """``a - alpha * b``."""
    return _sum(call, -call.kwargs.get("alpha", 1))


def subtract_from(call: Call) -> list[Site] | None:
    """``b - a``, as ``__rsub__`` and ``rsub`` have it."""
    weight, other = call.args[:2]
    if call.view(other) or "alpha" in call.kwargs:
        return None
    return _listed(elementwise(call, weight, -1.0))


def _sum(call: Call, scale: float) -> list[Site] | None:
    a, b = call.args[:2]
    if call.view(a) and call.view(b):
        return None
    return _listed(elementwise(call, *((a, 1.0) if call.view(a) else (b, scale))))


def multiply(call: Call) -> list[Site] | None:
    """``a * b``."""
    a, b = call.args[:2]
    if call.view(a) and call.view(b):
        return None
    weight, x = (a, b) if call.view(a) else (b, a)
    return _listed(elementwise(call, weight, x.detach() if isinstance(x, Tensor) else x))


def expand(call: Call) -> list[Site] | None:
    """A parameter repeated for every sample."""
    return _listed(elementwise(call, call.args[0], 1.0))


def with_bias(
    call: Call, weight: Any, site: Site | None, bias: Any, keep: tuple[int, ...]
) -> list[Site] | None:
    """The site of a weight, where it is a parameter, and that of its bias."""
    sites = [site] if call.view(weight) else []
    if call.view(bias):
        sites.append(elementwise(call, bias, 1.0, keep))
    return [s for s in sites if s] if all(sites) else None


def _listed(site: Site | None) -> list[Site] | None:
    return None if site is None else [site]


PRODUCTS_AND_SUMS: dict[str, Handler] = {
    "linear": linear,
    "einsum": einsum,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "__matmul__"), matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), addmm),
    "embedding": embedding,
    "index_select": index_select,
    "__getitem__": getitem,
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), add),
    **dict.fromkeys(("sub", "sub_", "subtract", "__sub__", "__isub__"), subtract),
    **dict.fromkeys(("rsub", "__rsub__"), subtract_from),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), multiply),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
}
