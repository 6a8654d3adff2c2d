"""Arithmetic modulo a prime."""

from __future__ import annotations

from grokscope.validation import require_int


def powers_of_a_primitive_root(modulus: int) -> list[int]:
    """``g^0, g^1, ..., g^(p-2)`` mod p for the smallest g whose powers are all of 1, ..., p - 1.

    Multiplication adds exponents, so in this order it is addition modulo p - 1.

    Args:
        modulus: p, a prime.

    Raises:
        ValueError: If it is not a prime.
    """
    require_int("modulus", modulus, minimum=2)
    if any(modulus % divisor == 0 for divisor in range(2, int(modulus**0.5) + 1)):
        raise ValueError(f"modulus must be a prime, got {modulus}.")
    for root in range(1, modulus):
        powers = _powers(root, modulus)
        if len(powers) == modulus - 1:
            return powers
    raise AssertionError(f"every prime has a primitive root, {modulus} too")


def _powers(root: int, modulus: int) -> list[int]:
    """1, g, g^2, ... up to the first that is 1 again."""
    powers = [1]
    while (following := powers[-1] * root % modulus) != 1:
        powers.append(following)
    return powers
