"""Random manifolds, as the reference numbers' recipes have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def cases(shared: Path, kind: str) -> list[dict[str, Any]]:
    """The reference cases of one kind."""
    read = json.loads((shared / "reference" / "capacity.json").read_text(encoding="utf-8"))
    found = [case for case in read["cases"] if case["kind"] == kind]
    assert found
    return found


def spectrum(dimension: int, power: float) -> np.ndarray:
    scales = np.arange(1, dimension + 1) ** (-power / 2)
    return scales / np.linalg.norm(scales)


def core_points(recipe: dict[str, Any]) -> np.ndarray:
    """One manifold with its coordinate along the center (D + 1, M)."""
    Z = np.random.default_rng(recipe["seed"]).standard_normal((recipe["D"], recipe["m"]))
    if recipe["shape"] == "sphere":
        Z = Z / np.linalg.norm(Z, axis=0)
    else:
        Z = spectrum(recipe["D"], recipe["spec_power"])[:, None] * Z
    return np.vstack([recipe["radius"] * Z, np.ones((1, recipe["m"]))])


def clouds(
    *,
    seed: int,
    P: int,
    N: int,
    D: int,
    M: int,
    radius: float = 1.0,
    spec_power: float = 0.0,
    K_common: int = 0,
    rho: float = 0.0,
    **_: Any,
) -> np.ndarray:
    """Gaussian clouds in random subspaces (P, M, N), their centers in part from a common one."""
    r = np.random.default_rng(seed)
    C, A = r.standard_normal((P, N)), r.standard_normal((P, N, D))
    Z, U = r.standard_normal((P, D, M)), r.standard_normal((K_common, N))
    F = r.standard_normal((P, K_common))
    centers = np.sqrt(1 - rho) * C
    if K_common:
        centers = centers + np.sqrt(rho / K_common) * (F @ U)
    Z = spectrum(D, spec_power)[None, :, None] * Z
    spread = np.einsum("pnd,pdm->pnm", A / np.sqrt(N), Z)
    return (centers[:, :, None] / np.sqrt(N) + radius * spread).transpose(0, 2, 1)
