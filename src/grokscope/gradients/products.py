"""Gram matrices of per-sample gradients, from their factors."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from grokscope.gradients.forms import Form, Outer, Rows, Token


def add_gram(out: Tensor, a: Form, b: Form, numbers: int) -> None:
    """Add the inner products of two sets of samples, (n_a, n_b) float64, in place.

    Chooses by operation count between products of the factors and of the gradients themselves,
    of which no more than ``numbers`` entries are written out at a time.
    """
    if isinstance(a, Token) and isinstance(b, Token):
        _add_tokens(out, a, b)
    elif isinstance(a, Outer) and isinstance(b, Outer):
        if factors_pay(a, b):
            _add_factors(out, a, b)
        else:
            _add_parts(out, a, b, numbers)
    elif isinstance(a, Rows) and isinstance(b, Rows):
        out.addmm_(a.values.double(), b.values.double().T)
    else:
        out.addmm_(a.rows(), b.rows().T)


def factors_pay(a: Outer, b: Outer) -> bool:
    """Whether products of the factors take fewer operations than those of the gradients."""
    o, i = a.left.shape[-1], a.right.shape[-1]
    return a.left.shape[2] * b.left.shape[2] * (o + i) <= o * i


def _add_factors(out: Tensor, a: Outer, b: Outer) -> None:
    r""":math:`\sum_{ts} (\delta_{it} \cdot \delta_{js}) (x_{it} \cdot x_{js})`."""
    a_left, a_right = a.left.double(), a.right.double()
    b_left, b_right = b.left.double(), b.right.double()
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
        out.addmm_(x, y.T)


def _add_tokens(out: Tensor, a: Token, b: Token) -> None:
    """Samples that share a token: one product for each token that both sets have."""
    theirs = _by_token(b)
    for token, (rows, x) in _by_token(a).items():
        if token in theirs:
            columns, y = theirs[token]
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
