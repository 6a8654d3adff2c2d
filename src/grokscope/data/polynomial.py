"""Polynomials modulo p in any number of variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.modular import SPLITS, shuffled
from grokscope.validation import require_choice, require_float, require_int

_MAX_VALUES = 2 * 10**9
_MAX_CONSTANT = 10**4
_VARIABLE = re.compile(r"n([1-9])")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
}


class PolynomialDataModule(TensorDataModule):
    """All p^S tuples (n1, ..., nS) and a polynomial of them mod p, as S one-hot blocks.

    Args:
        polynomial: Such as ``n1 + n2 + n3 + n4`` or ``(4*n1 + n2^2)^3``: integers, n1 to n9,
            ``+ - *``, brackets, and powers by ``^`` or ``**``. S is the largest n in it.
        modulus: p.
        train_fraction: ``int(train_fraction * p^S)`` tuples train.
        split: Which generator shuffles the tuples: ``python`` or ``torch``.
        seed: Seeds the split and the order of mini-batches.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.

    Raises:
        ValueError: For a polynomial that cannot be read, or an argument out of its range.

    Source:
        Doshi et al. 2024, "Grokking modular polynomials", arXiv:2406.03495.
    """

    def __init__(
        self,
        polynomial: str = "n1 + n2 + n3 + n4",
        modulus: int = 11,
        train_fraction: float = 0.5,
        split: str = "torch",
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        self.polynomial, self._tree = polynomial, _parsed(polynomial)
        self.modulus = require_int("modulus", modulus, minimum=2, maximum=10_000)
        self.n_variables = _n_variables(self._tree)
        self.train_fraction = require_float("train_fraction", train_fraction, above=0.0, below=1.0)
        self.split = require_choice("split", split, SPLITS)
        n, n_train = modulus**self.n_variables, self.n_train
        if n * self.n_variables * modulus > _MAX_VALUES:
            raise ValueError(
                f"modulus must give at most {_MAX_VALUES:.0e} inputs in memory, got {modulus} "
                f"with {self.n_variables} variables: {n:.3g} tuples."
            )
        if not 0 < n_train < n:
            raise ValueError(
                f"train_fraction must leave a tuple for training and one for the test, got "
                f"{train_fraction} of {n}."
            )

    @property
    def n_train(self) -> int:
        """Tuples that train."""
        return int(self.train_fraction * self.modulus**self.n_variables)

    def make_splits(self) -> tuple[Split, Split]:
        """Both splits, each listed by n1, then n2 and so on."""
        grid = torch.meshgrid(*[torch.arange(self.modulus)] * self.n_variables, indexing="ij")
        variables = torch.stack([axis.flatten() for axis in grid], 1)
        targets = evaluate(self._tree, list(variables.unbind(1)), self.modulus)
        order = shuffled(len(variables), self.split, self.seed)
        train, test = order[: self.n_train].sort().values, order[self.n_train :].sort().values
        inputs = F.one_hot(variables, self.modulus).flatten(1).float()
        return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])


def evaluate(tree: ast.expr, variables: list[Tensor], modulus: int) -> Tensor:
    """The polynomial at n1, n2, ... (n,) int64; reduced at every operation, so never too large."""
    if isinstance(tree, ast.Constant):
        return torch.full_like(variables[0], int(tree.value) % modulus)  # type: ignore[arg-type]
    if isinstance(tree, ast.Name):
        return variables[int(tree.id[1:]) - 1]
    if isinstance(tree, ast.UnaryOp):
        return -evaluate(tree.operand, variables, modulus) % modulus
    assert isinstance(tree, ast.BinOp)
    left = evaluate(tree.left, variables, modulus)
    if isinstance(tree.op, ast.Pow):
        return _power(left, int(tree.right.value), modulus)  # type: ignore[attr-defined]
    return _OPERATORS[type(tree.op)](left, evaluate(tree.right, variables, modulus)) % modulus


def _power(base: Tensor, exponent: int, modulus: int) -> Tensor:
    result = torch.ones_like(base) % modulus
    while exponent:
        if exponent & 1:
            result = result * base % modulus
        base, exponent = base * base % modulus, exponent >> 1
    return result


def _parsed(text: str) -> ast.expr:
    """The expression, in which everything is known."""
    try:
        tree = ast.parse(str(text).replace("^", "**").strip(), mode="eval").body
        ok = len(text) <= 1000 and _readable(tree) and _n_variables(tree) > 0
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        ok = False
    if not ok:
        raise ValueError(
            "polynomial must be made of integers up to 10000, n1 to n9, + - * ^ and brackets, "
            f"with exponents that are integers >= 0, got {text!r}."
        )
    return tree


def _readable(tree: ast.AST) -> bool:
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Pow):
        return (
            _readable(tree.left) and isinstance(tree.right, ast.Constant) and _readable(tree.right)
        )
    if isinstance(tree, ast.BinOp):
        return type(tree.op) in _OPERATORS and _readable(tree.left) and _readable(tree.right)
    if isinstance(tree, ast.UnaryOp):
        return isinstance(tree.op, ast.USub) and _readable(tree.operand)
    if isinstance(tree, ast.Constant):
        return type(tree.value) is int and tree.value <= _MAX_CONSTANT
    return isinstance(tree, ast.Name) and _VARIABLE.fullmatch(tree.id) is not None


def _n_variables(tree: ast.AST) -> int:
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return max((int(name[1:]) for name in names), default=0)
