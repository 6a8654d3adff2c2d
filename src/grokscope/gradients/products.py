"""Gram matrices of per-sample gradients, from their factors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from grokscope.gradients.forms import Form, Outer, Rows, Token

Pair = tuple[Form, Form]


def add_gram(out: Tensor, a: Form, b: Form, numbers: int) -> None:
    """Add the inner products of two sets of samples, (n_a, n_b), in the precision of ``out``.

    Chooses by operation count between products of the factors and of the gradients themselves.

    Args:
        out: (n_a, n_b).
        a: Gradients of one parameter, of n_a samples.
        b: Of n_b samples.
        numbers: Entries of gradients that are written out at a time, at most.
    """
    if isinstance(a, Token) and isinstance(b, Token):
        _add_tokens(out, a, b)
    elif isinstance(a, Outer) and isinstance(b, Outer):
        if factors_pay(a, b):
            _add_factors(out, a, b)
        else:
            _add_parts(out, a, b, numbers)
    elif isinstance(a, Rows) and isinstance(b, Rows):
        out.addmm_(a.values.to(out.dtype), b.values.to(out.dtype).T)
    else:
        out.addmm_(a.rows().to(out.dtype), b.rows().to(out.dtype).T)


def with_shared_inputs(pairs: list[Pair]) -> list[Pair]:
    """Forms of parameters that read the same input made one, as query, key and value do.

    Their inner products add up to those of one wider parameter.
    """
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for number, (a, b) in enumerate(pairs):
        wide = isinstance(a, Outer) and isinstance(b, Outer) and factors_pay(a, b)
        groups.setdefault((_place(a), _place(b)) if wide else (number,), []).append((a, b))
    return [group[0] if len(group) == 1 else _side_by_side(group) for group in groups.values()]


def _place(form: Form) -> tuple[object, ...]:
    """Where the input of an outer product lies in memory."""
    assert isinstance(form, Outer)
    return form.right.data_ptr(), form.right.shape, form.right.stride()


def _side_by_side(group: list[Pair]) -> Pair:
    def joined(forms: list[Form]) -> Form:
        outers = [form for form in forms if isinstance(form, Outer)]
        left = torch.cat([form.left for form in outers], dim=-1)
        return Outer(left, outers[0].right, None, left.shape[-1] * outers[0].right.shape[-1])

    return joined([a for a, _ in group]), joined([b for _, b in group])


def factors_pay(a: Outer, b: Outer) -> bool:
    """Whether products of the factors take fewer operations than those of the gradients."""
    o, i = a.left.shape[-1], a.right.shape[-1]
    return a.left.shape[2] * b.left.shape[2] * (o + i) <= o * i


def _add_factors(out: Tensor, a: Outer, b: Outer) -> None:
    r""":math:`\sum_{ts} (\delta_{it} \cdot \delta_{js}) (x_{it} \cdot x_{js})`."""
    a_left, a_right = a.left.to(out.dtype), a.right.to(out.dtype)
    b_left, b_right = b.left.to(out.dtype), b.right.to(out.dtype)
    for g in range(a_left.shape[1]):
        for t in range(a_left.shape[2]):
            for s in range(b_left.shape[2]):
                deltas = a_left[:, g, t] @ b_left[:, g, s].T
                out.addcmul_(deltas, a_right[:, g, t] @ b_right[:, g, s].T)


def _add_parts(out: Tensor, a: Outer, b: Outer, numbers: int) -> None:
    """Write the gradients out, some rows of the parameter at a time, and multiply."""
    (_, g, _, o), i = a.left.shape, a.right.shape[-1]
    step = max(1, numbers // (g * i * max(len(a), len(b), 1)))
    for start in range(0, o, step):
        part = slice(start, start + step)
        x, y = (replace(form, left=form.left[..., part]).entries() for form in (a, b))
        out.addmm_(x.to(out.dtype), y.to(out.dtype).T)


def _add_tokens(out: Tensor, a: Token, b: Token) -> None:
    """Samples that share a token: one product for each token that both sets have."""
    theirs = _by_token(b)
    for token, (rows, x) in _by_token(a).items():
        if token in theirs:
            columns, y = theirs[token]
            x, y = x.to(out.dtype), y.to(out.dtype)
            if len(rows) == len(out) and len(columns) == out.shape[1]:
                out.addmm_(x, y.T)
            else:
                out[rows[:, None], columns] += x @ y.T


def _by_token(form: Token) -> dict[int, tuple[Tensor, Tensor]]:
    """Token -> the samples that have it, ascending, and their (k, d) float64 gradients."""
    t = form.token.shape[1]
    tokens, order = form.token.flatten().sort(stable=True)
    values, counts = tokens.unique_consecutive(return_counts=True)
    delta, groups = form.delta.double().flatten(0, 1), {}
    for token, places in zip(values.tolist(), order.split(counts.tolist()), strict=True):
        rows, inverse = (places // t).unique_consecutive(return_inverse=True)
        sums = delta.new_zeros(len(rows), delta.shape[1])
        groups[token] = rows, sums.index_add_(0, inverse, delta[places])
    return groups
