"""The twenty operators of Power et al. 2022 as tables of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from grokscope.validation import require_choice, require_int

Rows = NDArray[np.int64]

PUBLISHED_MODULUS = 97
MODULAR, CYCLES, LISTS = "modular", "s5", "lists"
EOS, EQUALS = 0, 1
_MAX_ROWS = 2_000_000


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        token: Its name in the vocabulary, which is its key in the released code.
        kind: What it takes: residues (``modular``), permutations (``s5``) or ``lists``.
        answer: (x, y, p) residues, (a, b) permutations (n, 5), or (n, k) lists -> answers.
    """

    token: str
    kind: str
    answer: Callable[..., Rows]


def _after(first: Rows, then: Rows) -> Rows:
    """Permutations (n, 5) applied one after the other: i -> then[first[i]]."""
    return np.take_along_axis(then, first, axis=1)


def _conjugate(a: Rows, b: Rows) -> Rows:
    return _after(_after(a, b), a.argsort(axis=1))


def _mixed(x: Rows, y: Rows, p: int) -> Rows:
    return np.where(y % 2 == 1, x * _inverses(p)[y], x - y)


def _modular(token: str, answer: Callable[[Rows, Rows, int], Rows]) -> Operator:
    return Operator(token, MODULAR, answer)


OPERATORS: dict[str, Operator] = {
    "add": _modular("+", lambda x, y, p: x + y),
    "subtract": _modular("-", lambda x, y, p: x - y),
    "multiply": _modular("*", lambda x, y, p: x * y),
    "divide": _modular("/", lambda x, y, p: x * _inverses(p)[y]),
    "square_plus": _modular("**2+", lambda x, y, p: x * x + y),
    "cube_plus": _modular("**3+", lambda x, y, p: x**3 + y),
    "quad1": _modular("x**2+y**2_mod_97", lambda x, y, p: x * x + y * y),
    "quad2": _modular("x**2+y**2+x*y_mod_97", lambda x, y, p: x * x + y * y + x * y),
    "quad3": _modular("x**2+y**2+x*y+x_mod_97", lambda x, y, p: x * x + y * y + x * y + x),
    "cube1": _modular("x**3+x*y_mod_97", lambda x, y, p: x**3 + x * y),
    "cube2": _modular("x**3+x*y**2+y_mod_97", lambda x, y, p: x**3 + x * y * y + y),
    "mix1": _modular("(x._value//y)if(y._value%2==1)else(x-y)_mod_97", _mixed),
    "s5": Operator("s5", CYCLES, _after),
    "s5conj": Operator("s5conj", CYCLES, _conjugate),
    "s5aba": Operator("s5aba", CYCLES, lambda a, b: _after(_after(a, b), a)),
    "even_add_odd_multiply": _modular("+*", lambda x, y, p: np.where(x % 2, x * y, x + y)),
    "even_add_odd_subtract": _modular("+-", lambda x, y, p: np.where(x % 2, x - y, x + y)),
    "sort": Operator("sort", LISTS, lambda lists: np.sort(lists, axis=1)),
    "reverse": Operator("reverse", LISTS, lambda lists: lists[:, ::-1]),
    "copy": Operator("copy", LISTS, lambda lists: lists),
}
"""Name -> operator, in the order of the released code."""

_INVERTING = ("divide", "mix1")
_S5: Rows = np.array(list(permutations(range(5))), dtype=np.int64)
_BASE5 = 5 ** np.arange(5)


def vocabulary(modulus: int = PUBLISHED_MODULUS) -> tuple[str, ...]:
    """All tokens; a token's number is its place: 142 + modulus, of which all operators use some.

    End of sentence, "=", operators sorted by their text, residues, permutations of 0 to 4.

    Source:
        openai/grok:grok/data.py (commit 3d64b1d), ``ArithmeticTokenizer.get_tokens``: 239.
    """
    operators = sorted(operator.token for operator in OPERATORS.values())
    residues = map(str, range(modulus))
    return "<|eos|>", "=", *operators, *residues, *("".join(map(str, s)) for s in _S5)


def count_equations(name: str, modulus: int = PUBLISHED_MODULUS, operand_length: int = 1) -> int:
    """How many equations an operator has.

    Raises:
        ValueError: For a wrong argument, or one that does not fit the operator.
    """
    operator = OPERATORS[require_choice("operator", name, OPERATORS)]
    require_int("modulus", modulus, minimum=2, maximum=1000)
    is_list = operator.kind == LISTS
    require_int(
        "operand_length",
        operand_length,
        minimum=2 if is_list else 1,
        maximum=modulus if is_list else 1,
    )
    if name in _INVERTING and not _is_prime(modulus):
        raise ValueError(f"modulus must be a prime for operator {name}, got {modulus}.")
    n = {
        MODULAR: modulus * (modulus - (name == "divide")),
        CYCLES: len(_S5) ** 2,
        LISTS: math.perm(modulus, operand_length),
    }[operator.kind]
    if n > _MAX_ROWS:
        raise ValueError(
            f"operand_length must give at most {_MAX_ROWS} lists, got {operand_length}: {n}."
        )
    return n


def equations(
    name: str, modulus: int = PUBLISHED_MODULUS, operand_length: int = 1
) -> tuple[Rows, int]:
    r"""All equations of an operator, in the order in which the released code lists them.

    Args:
        name: Key of :data:`OPERATORS`.
        modulus: Residues 0 to modulus - 1; 97 in the code. Prime for ``divide`` and ``mix1``.
        operand_length: Numbers in the operand of a list operator; 1 for the others.

    Returns:
        Tokens (n, length), and how many tokens an answer has. A row is
        ``<|eos|> a op b = c <|eos|>``, or ``<|eos|> op a_1 .. a_k = c_1 .. c_k <|eos|>``.

    Raises:
        ValueError: As :func:`count_equations`.

    Source:
        openai/grok:grok/data.py (commit 3d64b1d), ``make_data``. Division runs over (c, b) with
        b != 0 and a = b c. ``s5`` is b[a[i]]; the others are products that apply their left
        factor first. Operand lists are given from outside there, and its ``operand_length``
        does not work; ours are all lists of different numbers, as its ``_make_lists``.
    """
    count_equations(name, modulus, operand_length)
    operator = OPERATORS[name]
    make = {MODULAR: _residue_rows, CYCLES: _permutation_rows, LISTS: _list_rows}
    left, answers = make[operator.kind](name, modulus, operand_length)
    token = vocabulary(modulus).index(operator.token)
    place = 1 if operator.kind == LISTS else 2
    left = np.insert(np.insert(left, 0, EOS, axis=1), place, token, axis=1)
    column = np.full((len(left), 1), EQUALS)
    rows = np.concatenate([left, column, answers, np.full_like(column, EOS)], axis=1)
    return rows.astype(np.int64), answers.shape[1]


def _first_number() -> int:
    return 2 + len(OPERATORS)


def _residue_rows(name: str, modulus: int, _: int) -> tuple[Rows, Rows]:
    """Operands (n, 2) and answers (n, 1) as tokens."""
    x, y = (grid.ravel() for grid in np.meshgrid(*[np.arange(modulus)] * 2, indexing="ij"))
    if name == "divide":
        quotient, y = x[y != 0], y[y != 0]
        x = quotient * y % modulus
    answers = OPERATORS[name].answer(x, y, modulus) % modulus
    return np.stack([x, y], axis=1) + _first_number(), answers[:, None] + _first_number()


def _permutation_rows(name: str, modulus: int, _: int) -> tuple[Rows, Rows]:
    index = np.arange(len(_S5))
    a, b = (grid.ravel() for grid in np.meshgrid(index, index, indexing="ij"))
    answers = OPERATORS[name].answer(_S5[a], _S5[b])
    numbers = np.empty(5**5, dtype=np.int64)
    numbers[_S5 @ _BASE5] = index
    first = _first_number() + modulus
    return np.stack([a, b], axis=1) + first, numbers[answers @ _BASE5][:, None] + first


def _list_rows(name: str, modulus: int, operand_length: int) -> tuple[Rows, Rows]:
    lists = np.array(list(permutations(range(modulus), operand_length)), dtype=np.int64)
    return lists + _first_number(), OPERATORS[name].answer(lists) + _first_number()


def _inverses(p: int) -> Rows:
    """y^-1 mod p by y, 0 for y = 0."""
    return np.array([0, *(pow(y, -1, p) for y in range(1, p))])


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
