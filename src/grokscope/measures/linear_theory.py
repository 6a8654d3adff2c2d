r"""What gradient descent on a linear teacher-student problem does, without running it.

Student S, teacher T, both (d, c); difference D = S - T; inputs X (n, d) with covariance
Sigma = X^T X / n. Training loss ``||X D||^2 / (n c)``, test loss over standard Gaussian
inputs ``||D||^2 / c``. Two answers: :class:`LinearTheory`, exact for one run, and the
``mp_*`` functions, its limit for d and n to infinity at a fixed ratio lambda = d / n.

Source: Levi, Beck, Bar-Sinai 2023, arXiv:2310.16441 ("eq." below). Numerics are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize, special

from grokscope.validation import require_float, require_int

Numbers = ArrayLike | float | int
"""Scalars are named apart for run-time type checks, where a float is no ``complex``."""

_MAX_EXPONENT = 700.0
_CHUNK_VALUES = 2**20
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(512)


class LinearTheory:
    r"""Exact losses of one full-batch gradient-descent run, at any step.

    Eq. 3 with weight decay, for a finite sample:

    .. math:: D_{t+1} = D_t - \frac{2\eta}{c}\Big(\Sigma + \frac{\gamma}{2}\Big) D_t
                        - \frac{\eta\gamma}{c} T

    which is ``torch.optim.SGD(lr=eta, weight_decay=gamma / c)`` on ``MSELoss``. In the
    eigenbasis of Sigma each mode is a scalar recursion (our derivation), solved by

    .. math:: d_t = r^t d_0 + (1 - r^t) d_*, \quad r = 1 - \frac{2\eta}{c}(\nu + \gamma/2),
              \quad d_* = -\frac{\gamma/2}{\nu + \gamma/2} T_\nu

    Null directions of Sigma (n < d) have nu = 0, or 1e-30 of the largest where samples
    repeat, nu being the square of a singular value of X: without weight decay they do not
    move. Steps too long to converge (r < -1) give the growing losses of the run, in the end
    ``inf``. Agrees with the loop in extended precision to 1e-12 (our check).

    Memory: about 2 d^2 + 2 n d + 6 d c values while constructing, 4 d after.

    Args:
        inputs: X, (n, d).
        student: S at step 0, (d, c).
        teacher: T, (d, c).
        learning_rate: eta.
        weight_decay: gamma.

    Raises:
        ValueError: For wrong shapes, values that are not finite, or negative rates.
    """

    def __init__(
        self,
        inputs: ArrayLike,
        student: ArrayLike,
        teacher: ArrayLike,
        learning_rate: float,
        weight_decay: float = 0.0,
    ) -> None:
        x, s, t = (
            _require_matrix(name, value)
            for name, value in (("inputs", inputs), ("student", student), ("teacher", teacher))
        )
        if t.shape[0] != x.shape[1]:
            raise ValueError(f"teacher must be ({x.shape[1]}, c) like inputs, got {t.shape}.")
        if s.shape != t.shape:
            raise ValueError(f"student must be {t.shape} like the teacher, got {s.shape}.")
        rate = require_float("learning_rate", learning_rate, above=0.0)
        decay = require_float("weight_decay", weight_decay, minimum=0.0)
        self.n_outputs = t.shape[1]
        self.eigenvalues, basis = _covariance_modes(x)
        shifted = self.eigenvalues + decay / 2
        self._log_growth, self._flips = _log_factor(2 * rate / self.n_outputs * shifted)
        # Per mode, D_0 and T span a plane: one coordinate along T, one across.
        t_modes, d_modes = basis @ t, basis @ (s - t)
        length = np.linalg.norm(t_modes, axis=1)
        unit = t_modes / np.where(length > 0, length, 1.0)[:, None]
        self._along = (unit * d_modes).sum(1)
        self._across = np.linalg.norm(d_modes - self._along[:, None] * unit, axis=1)
        pull = np.divide(decay / 2, shifted, out=np.zeros_like(shifted), where=shifted > 0)
        self._rest = -pull * length

    def train_loss(self, step: Numbers) -> NDArray[np.float64]:
        """``||X D||^2 / (n c)`` after ``step`` updates; the shape of ``step``."""
        return self._weighted(step, self.eigenvalues)

    def test_loss(self, step: Numbers) -> NDArray[np.float64]:
        """``||D||^2 / c``, exact over all Gaussian inputs; the shape of ``step``."""
        return self._weighted(step, np.ones_like(self.eigenvalues))

    def _weighted(self, step: Numbers, weights: NDArray) -> NDArray[np.float64]:
        """Sum over modes of ``weights`` * squared difference, / c."""
        steps = _require_steps(step)
        rows = max(1, _CHUNK_VALUES // len(weights))
        losses = np.empty(steps.size)
        for start in range(0, steps.size, rows):
            part = steps.ravel()[start : start + rows, None]
            losses[start : start + rows] = self._squares(part) @ weights
        return np.asarray(losses.reshape(steps.shape) / self.n_outputs)

    def _squares(self, steps: NDArray) -> NDArray:
        """Squared difference of each mode, (k, d), for ``steps`` (k, 1)."""
        exponent = np.multiply(
            steps, self._log_growth, out=np.zeros((len(steps), self._along.size)), where=steps > 0
        )
        exponent = np.minimum(exponent, _MAX_EXPONENT)
        sign = np.where(self._flips & (steps % 2 == 1), -1.0, 1.0)
        power = sign * np.exp(exponent)
        rest = np.where(sign > 0, -np.expm1(exponent), 1.0 - power)  # 1 - r^t, small or not
        with np.errstate(over="ignore"):
            along = power * self._along + rest * self._rest
            return along**2 + (power * self._across) ** 2


def _require_matrix(name: str, value: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{name} must be a matrix that is not empty, got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be finite, got nan or inf.")
    return matrix


def _require_steps(step: Numbers) -> NDArray[np.float64]:
    steps = np.asarray(step, dtype=np.float64)
    if not np.isfinite(steps).all() or (steps < 0).any() or (steps != np.floor(steps)).any():
        raise ValueError(f"step must be whole numbers >= 0, got {step!r}.")
    return steps


def _covariance_modes(x: NDArray) -> tuple[NDArray, NDArray]:
    """Eigenvalues (d,) of X^T X / n and eigenvectors as rows (d, d); n < d pads zeros.

    From the singular values of X, which keep small eigenvalues accurate: late losses
    are made of them.
    """
    n, d = x.shape
    (triangle,) = linalg.qr(x / math.sqrt(n), mode="r", check_finite=False)
    _, singular, basis = linalg.svd(triangle[: min(n, d)], check_finite=False)
    return np.pad(singular**2, (0, d - len(singular))), basis


def _log_factor(a: NDArray) -> tuple[NDArray, NDArray]:
    """Logarithm of ``|1 - a|``, -inf at a = 1, and whether ``1 - a`` is negative."""
    with np.errstate(divide="ignore"):
        below, above = np.log1p(-np.minimum(a, 1.0)), np.log(np.maximum(a, 1.0) - 1.0)
    return np.where(a <= 1, below, above), a > 1


def mp_expectation(
    func: Callable[[NDArray[np.float64]], NDArray[np.float64]], ratio: float, *, rate: float = 0.0
) -> float:
    r"""Mean of ``func`` over the Marchenko-Pastur law, the limit spectrum of Sigma.

    .. math:: (1 - 1/\lambda)^+ \delta_0 + \frac{\sqrt{(\nu_+ - \nu)(\nu - \nu_-)}}
              {2 \pi \lambda \nu}, \quad \nu_\pm = (1 \pm \sqrt\lambda)^2

    Quadrature (our own): nu = (1 - sqrt(lambda))^2 + 4 sqrt(lambda) sin^2(phi / 2), and
    phi = b sinh(u) with b the smaller of the distance of the pole at nu = 0 and the width of
    ``exp(-rate nu)``, which leaves a smooth integrand for any ratio and time.

    Args:
        func: Maps an array of eigenvalues to values.
        ratio: lambda = d / n.
        rate: How fast ``func`` falls with nu, about; resolves its peak at small nu.
    """
    root = math.sqrt(require_float("ratio", ratio, above=0.0))
    require_float("rate", rate, minimum=0.0)
    pole = abs(math.log(root)) or 1.0
    b = min(pole, (root * rate) ** -0.5 if rate > 0 else 1.0, 1.0)
    u_max = math.asinh(math.pi / b)
    u = (_NODES + 1) * u_max / 2
    phi = b * np.sinh(u)
    nu = (1 - root) ** 2 + 4 * root * np.sin(phi / 2) ** 2
    density = 2 / math.pi * np.sin(phi) ** 2 / nu * b * np.cosh(u)
    atom = (1 - 1 / ratio) * float(func(np.zeros(1))[0]) if ratio > 1 else 0.0
    return atom + float(np.sum(_WEIGHTS * u_max / 2 * density * func(nu)))


def mp_train_loss(t: Numbers, ratio: float, eta: float, d_out: int = 1) -> NDArray[np.float64]:
    r"""Training loss of gradient flow in the large-size limit, averaged over teachers (eq. 7).

    .. math:: L_{tr} = e^{-4 \eta (1+\lambda) t}
              \frac{I_1(8 \sqrt\lambda \eta t)}{4 \sqrt\lambda \eta t}

    for one output, any lambda; d_out outputs: eta / d_out for eta, and the loss / d_out.

    Args:
        t: Steps, any shape, >= 0.
        ratio: lambda = d_in / n_train.
        eta: Learning rate.
        d_out: Outputs.
    """
    steps, eta = _flow_arguments(t, ratio, eta, d_out)
    root = math.sqrt(ratio)
    z = np.maximum(8 * root * eta * steps, 1e-30)  # I_1(z) / (z / 2) is 1 at 0
    envelope = np.exp(-4 * eta * (1 - root) ** 2 * steps)
    return np.asarray(envelope * special.i1e(z) / (z / 2) / d_out)


def mp_test_loss(t: Numbers, ratio: float, eta: float, d_out: int = 1) -> NDArray[np.float64]:
    r"""Test loss of gradient flow in the large-size limit (eq. 7): mean of exp(-4 eta nu t).

    There is no closed form; its time derivative is -4 eta times the training loss. For
    lambda > 1 it ends at 1 - 1 / lambda. Arguments as in :func:`mp_train_loss`.
    """
    steps, eta = _flow_arguments(t, ratio, eta, d_out)

    def at(rate: float) -> float:
        return mp_expectation(lambda nu: np.exp(-rate * nu), ratio, rate=rate)

    losses = [at(rate) for rate in (4 * eta * steps).ravel().tolist()]
    return np.asarray(np.reshape(losses, steps.shape) / d_out)


def mp_decay_losses(
    t: Numbers, ratio: float, eta: float, weight_decay: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Training and test loss of gradient flow with weight decay, in the large-size limit.

    .. math:: L = \tfrac12 E\Big[\Big(e^{-4\eta m t} +
              \Big(\frac{\nu e^{-2\eta m t} + \gamma/2}{m}\Big)^2\Big) q\Big], \quad
              m = \nu + \gamma/2, \quad q = \nu \text{ or } 1

    for one output (eq. 15), averaged over students and teachers of the same scale.

    Args:
        t: Steps, any shape, >= 0.
        ratio: lambda = d_in / n_train.
        eta: Learning rate.
        weight_decay: gamma, > 0.
    """
    steps, eta = _flow_arguments(t, ratio, eta, 1)
    half = require_float("weight_decay", weight_decay, above=0.0) / 2

    def at(time: float, power: int) -> float:
        def loss(nu: NDArray[np.float64]) -> NDArray[np.float64]:
            m = nu + half
            decay = np.exp(-2 * eta * m * time)
            return (decay**2 + ((nu * decay + half) / m) ** 2) / 2 * nu**power

        return mp_expectation(loss, ratio, rate=max(4 * eta * time, 1 / half))

    times = steps.ravel().tolist()
    train, test = (
        np.reshape([at(time, power) for time in times], steps.shape) for power in (1, 0)
    )
    return np.asarray(train), np.asarray(test)


def decay_floors(ratio: float, weight_decay: float) -> tuple[float, float]:
    r"""Training and test loss that a small weight decay leaves in the end, for ratio < 1.

    .. math:: \frac{\gamma^2}{8 (1 - \lambda)}, \quad \frac{\gamma^2}{8 (1 - \lambda)^3}

    The limit of eq. 15, from the Marchenko-Pastur means of 1 / nu and 1 / nu^2; the paper's
    eq. 16 prints 4 for the 8, twice these (our check). :func:`mp_decay_losses` at a late time has
    them for any gamma.
    """
    gap = 1 - require_float("ratio", ratio, above=0.0, below=1.0)
    square = require_float("weight_decay", weight_decay, minimum=0.0) ** 2 / 8
    return square / gap, square / gap**3


def _flow_arguments(t: Numbers, ratio: float, eta: float, d_out: int) -> tuple[NDArray, float]:
    require_float("ratio", ratio, above=0.0)
    steps = np.asarray(t, dtype=np.float64)
    if not np.isfinite(steps).all() or (steps < 0).any():
        raise ValueError(f"t must be finite and >= 0, got {t!r}.")
    return steps, require_float("eta", eta, above=0.0) / require_int("d_out", d_out)


def population_accuracy(loss: Numbers, threshold: float, d_out: int = 1) -> NDArray[np.float64]:
    r"""Share of samples whose squared error, averaged over outputs, is under ``threshold``.

    .. math:: A = P\Big(\frac{d_{out}}{2}, \frac{d_{out}\, \epsilon}{2 L}\Big), \quad
              A = \mathrm{erf}\sqrt{\epsilon / (2 L)} \text{ for one output}

    with P the regularised lower incomplete gamma function. Exact for Gaussian errors that
    are independent and equal over outputs; for one output this always holds on Gaussian inputs.
    L = threshold / 4 is an accuracy of 95.45 %.
    """
    epsilon = require_float("threshold", threshold, above=0.0)
    half = require_int("d_out", d_out) / 2
    losses = np.asarray(loss, dtype=np.float64)
    if not (losses >= 0).all():
        raise ValueError("loss must be >= 0, got a negative number or nan.")
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(special.gammainc(half, half * epsilon / losses))


def crossing_time(
    curve: Callable[[float], Numbers], level: float, *, maximum: float = 1e12
) -> float:
    """Time at which a falling curve reaches ``level``; ``inf`` if not by ``maximum``.

    For :class:`LinearTheory`, whose steps are whole, pass
    ``lambda t: theory.test_loss(int(t))``; the answer is the first step at or under ``level``.
    """
    require_float("level", level, above=0.0)

    def excess(t: float) -> float:
        return float(curve(t)) - level  # type: ignore[arg-type]

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
        if low >= maximum:
            return math.inf
    return float(optimize.brentq(excess, low, high, xtol=1e-9, rtol=1e-13))


def late_delay(ratio: float, eta: float) -> float:
    r"""Grokking time as the accuracy threshold goes to 0, for ratio < 1 (eq. 12).

    .. math:: \frac{\log(1 / (1 - \sqrt\lambda))}{2 \eta (1 - \sqrt\lambda)^2}

    At thresholds in use it is 1.2 to 2.8 times the delay of the exact curves (our check);
    take :func:`crossing_time` for a number to compare with.
    """
    gap = 1 - math.sqrt(require_float("ratio", ratio, above=0.0, below=1.0))
    return -math.log(gap) / (2 * require_float("eta", eta, above=0.0) * gap**2)
