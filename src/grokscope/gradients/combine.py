"""One form for all uses of a parameter."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from grokscope.gradients.forms import Form, Outer, Rows, Token


def combined(forms: list[Form]) -> Form:
    """One form for all uses of a parameter: the sum of their gradients.

    Uses that agree on what is row and column of the parameter are further positions of one;
    others are added entry by entry, which takes (n, size) numbers.
    """
    placed = [_in_parameter_space(form) for form in forms]
    if len({type(form) for form in placed}) > 1:
        placed = [form.outer() if isinstance(form, Token) else form for form in placed]
    return reduce(_added, placed)


def _added(a: Form, b: Form) -> Form:
    if isinstance(a, Outer) and isinstance(b, Outer):
        if not _same(a.index, b.index) and _same(a.index, b.swapped().index):
            b = b.swapped()
        if _same(a.index, b.index) and a.left.shape[1] == b.left.shape[1]:
            left, right = torch.cat([a.left, b.left], 2), torch.cat([a.right, b.right], 2)
            return replace(a, left=left, right=right)
    if isinstance(a, Token) and isinstance(b, Token) and _same(a.index, b.index):
        token, delta = torch.cat([a.token, b.token], 1), torch.cat([a.delta, b.delta], 1)
        return replace(a, token=token, delta=delta)
    if isinstance(a, Rows) and isinstance(b, Rows) and _same(a.index, b.index):
        return replace(a, values=a.values + b.values)
    return Rows(a.rows() + b.rows(), None, a.size)


def _in_parameter_space(form: Form) -> Form:
    """Itself, or rows of the parameter where a use takes an entry more than once."""
    if form.index is None or len(form.index.unique()) == form.index.numel():
        return form
    return Rows(form.rows(), None, form.size)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a, b)


def compact(form: Form) -> Form:
    """Without dead positions, and written out where that takes fewer numbers."""
    form = form.live()
    if isinstance(form, Outer):
        (_, g, _, o), i = form.left.shape, form.right.shape[-1]
        if len(form) * g * o * i < form.left.numel() + form.right.numel():
            index = None if form.index is None else form.index.flatten()
            return Rows(form.entries().to(form.left.dtype), index, form.size)
    return form
