"""What capacity.py measures.

python capacity_timings.py: seconds of the first and of the second call in a fresh process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from timing import milliseconds, table, verdict

from grokscope.measures.anchor_qp import solve_probes
from grokscope.measures.capacity import MeanFieldCapacity, WarmStart, mean_field_capacity

N_PROBES = 200
STEP = 0.02  # noise between checkpoints, relative to the points' standard deviation
NOTE = (
    "Reference: replicaMFT's code (schung039/neural_manifolds_replicaMFT), timed once on one core "
    "of another machine, an Intel Xeon; it is not on PyPI and does not run with current SciPy. "
    "Ours: median (range) of whole calls, compiled code loaded. In a series each checkpoint is "
    f"the last one plus noise of {STEP:.0%} of the points' standard deviation; cold and warm take "
    "turns, and the first, cold checkpoint of the warm series counts."
)


@dataclass(frozen=True)
class Case:
    """One input and its limits.

    Attributes:
        name: For the table.
        points: (P, M, N).
        options: Of the call.
        reference: Seconds of the reference code.
        at_least: Times faster that we want to be.
    """

    name: str
    points: np.ndarray
    options: dict[str, Any]
    reference: float
    at_least: float

    def call(self, points: np.ndarray, warm: WarmStart | None = None) -> MeanFieldCapacity:
        return mean_field_capacity(points, n_probes=N_PROBES, warm=warm, **self.options)


def cases(quick: bool) -> list[Case]:
    """The two inputs for which the reference time of a whole measurement is known."""
    P, M, N = (8, 20, 64) if quick else (47, 200, 512)
    p, m, n = (5, 10, 32) if quick else (30, 50, 256)
    return [
        Case(f"with removal, P {P}, M {M}, N {N}", features(P, M, N), {}, 173.0, 50.0),
        Case(
            f"without removal, P {p}, M {m}, N {n}",
            clouds(p, m, n),
            {"remove_correlations": False},
            14.4,
            80.0,
        ),
    ]


def features(P: int, M: int, N: int, inputs: int = 30, noise: float = 0.5) -> np.ndarray:
    """Random rectifier features of clusters of normal points."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((P, 1, inputs)) + noise * rng.standard_normal((P, M, inputs))
    return np.maximum(z @ rng.standard_normal((inputs, N)) / inputs**0.5, 0.0)


def clouds(P: int, M: int, N: int, D: int = 20, radius: float = 1.5) -> np.ndarray:
    """Gaussian clouds in random subspaces, variance falling as 1 / sqrt(i)."""
    r = np.random.default_rng(112)
    C, A = r.standard_normal((P, N)), r.standard_normal((P, N, D))
    scales = np.arange(1, D + 1) ** -0.25
    Z = (scales / np.linalg.norm(scales))[:, None] * r.standard_normal((P, D, M))
    return np.ascontiguousarray((C[:, :, None] + radius * A @ Z).transpose(0, 2, 1)) / N**0.5


def report(quick: bool) -> str:
    """Tables of all that is measured, and notes."""
    measured = [series(case, 3 if quick else 30) for case in cases(quick)]
    calls = [row for rows, _ in measured for row in rows]
    programs = [row for _, row in measured]
    first, loaded = compile_seconds()
    return "\n\n".join(
        [
            table(["input", "reference, s", "ours, ms", "times faster", "limit"], calls),
            NOTE,
            table(["one quadratic program", "cvxopt, ms", "ours, us", "times faster"], programs),
            "cvxopt: as the reference code calls it, on 20 probes of the first manifold in this "
            f"run; ours: all {N_PROBES} of it, cold.",
            f"The first call in a process took {first:.1f} s when it compiled, once for each "
            f"version of the code, and {loaded:.1f} s when it loaded what was compiled; not "
            "counted above.",
        ]
    )


def series(case: Case, n_checkpoints: int) -> tuple[list[list[str]], list[str]]:
    """Rows of the calls of a series, cold and warm, and the row of its quadratic program."""
    cold, warm, state = [], [], WarmStart()
    case.call(case.points)
    for points in drifting(case.points, n_checkpoints):
        cold.append(seconds(lambda points=points: case.call(points)))
        warm.append(seconds(lambda points=points: case.call(points, state)))
    middle, ratio = statistics.median(cold), sum(cold) / sum(warm)
    faster = case.reference / middle
    rows = [
        [
            case.name,
            f"{case.reference:g}",
            milliseconds(cold),
            f"{faster:.0f}",
            verdict(faster, case.at_least, at_most=False),
        ],
        [
            f"the same, a series of {n_checkpoints}, each",
            f"{case.reference:g}",
            milliseconds(warm),
            f"{case.reference * len(warm) / sum(warm):.0f}; cold / warm {ratio:.1f}",
            verdict(ratio, 2.0, at_most=False),
        ],
    ]
    return rows, program(case)


def drifting(points: np.ndarray, n: int) -> Iterator[np.ndarray]:
    rng, spread = np.random.default_rng(1), points.std()
    for _ in range(n):
        yield points
        points = points + STEP * spread * rng.standard_normal(points.shape)


def program(case: Case) -> list[str]:
    """One quadratic program of the first manifold, by cvxopt and by us."""
    x = case.points[0] - case.points.mean((0, 1))
    center = x.mean(0)
    x = (x - center) / np.linalg.norm(center)
    R = np.linalg.qr(x.T, mode="r")
    T = np.random.default_rng(2).standard_normal((len(R) + 1, N_PROBES))
    products = T[:-1].T @ R
    linear, gram = products + T[-1][:, None], x @ x.T

    def solve() -> None:
        solve_probes(gram, products, linear, np.zeros(products.shape, dtype=bool))

    ours = 1e6 * statistics.median(seconds(solve) for _ in range(20)) / N_PROBES
    peer = cvxopt_milliseconds(np.vstack([R, np.ones(len(R))]), T[:, :20])
    ratio = "-" if peer is None else f"{1e3 * peer / ours:.0f}"
    return [case.name, "not installed" if peer is None else f"{peer:.2g}", f"{ours:.2g}", ratio]


def cvxopt_milliseconds(points: np.ndarray, probes: np.ndarray) -> float | None:
    """Median for one probe, with the reference code's tolerances; None without the library."""
    try:
        from cvxopt import matrix, solvers
    except ImportError:
        return None
    for name in ("abstol", "reltol", "feastol"):
        solvers.options[name] = 1e-12
    solvers.options.update(show_progress=False, maxiters=1_000_000)
    times = []
    for t in probes.T:
        quadratic, linear = matrix(np.identity(len(t))), matrix(-t)
        inequality, bound = matrix(points.T.copy()), matrix(np.zeros(points.shape[1]))
        times.append(
            seconds(lambda args=(quadratic, linear, inequality, bound): solvers.qp(*args))
        )
    return 1e3 * statistics.median(times)


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compile_seconds() -> tuple[float, float]:
    """First calls in a fresh process: with nothing compiled before, and with all of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__]
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        run = [subprocess.run(command, env=env, check=True, stdout=-1, text=True) for _ in "ab"]
    first, loaded = (float(done.stdout) for done in run)
    return first, loaded


if __name__ == "__main__":
    print(seconds(lambda: mean_field_capacity(features(5, 6, 20), n_reps=1, n_probes=2)))
