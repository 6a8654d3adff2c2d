"""Second moment of the per-sample gradients: spectra of matrices that are never formed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigsh
from torch import Tensor

from grokscope.gradients import Factors
from grokscope.measures.factored import gram_eigenvalues
from grokscope.measures.spectra import METRICS, spectrum_metrics
from grokscope.validation import require_int

EXACT_LIMIT = 8_000
FROM_THE_TOP = ("spectral_norm", "eigenvalue_max", "spectral_gap")
NAN = float("nan")
RANK_LIMIT, TINY = 1e-12, 1e-300
Array = NDArray[np.float64]


@dataclass(frozen=True)
class SampleSpectrum:
    """Spectrum of the ``sample`` GOP, AᵀA / n, of a net or of one of its layers.

    Attributes:
        eigenvalues: (r,) float64, descending: all that may differ from zero, or the largest.
        n_parameters: Side m of the matrix.
        trace: Exact in either case.
        residuals: (r,) of estimated eigenvalues: the norm of K u / n - λ u for the unit
            eigenvector u found, a bound of the error of λ. None where the spectrum is exact.
        directions: (k, m) unit eigenvectors of the largest eigenvalues where they were asked
            for, fewer than k where the rank is lower; their signs are arbitrary.
    """

    eigenvalues: NDArray[np.float64]
    n_parameters: int
    trace: float
    residuals: NDArray[np.float64] | None = None
    directions: Tensor | None = None

    def metrics(self, *, rank_threshold: float = 1e-6, top_k: int = 100) -> dict[str, float]:
        """All of :func:`~grokscope.measures.spectra.spectrum_metrics`.

        Of an estimated spectrum NaN for all but the trace, the mean, and what the largest
        eigenvalues say.
        """
        found = spectrum_metrics(
            self.eigenvalues, self.n_parameters, rank_threshold=rank_threshold, top_k=top_k
        )
        if self.residuals is None:
            return found
        known = {name: found[name] if name in FROM_THE_TOP else NAN for name in METRICS}
        known |= dict.fromkeys(("trace", "nuclear_norm"), self.trace)
        known["eigenvalue_mean"] = self.trace / self.n_parameters
        top = float(self.eigenvalues[:top_k].sum())
        return known | {"top_k_cumulative_variance": top / self.trace if self.trace else NAN}


def sample_gop(
    factors: Factors,
    layer: str | None = None,
    *,
    centered: bool = False,
    exact_limit: int = EXACT_LIMIT,
    top_k: int = 100,
    n_directions: int = 0,
) -> SampleSpectrum:
    r"""Spectrum of the second moment of the per-sample gradients.

    .. math:: G = \frac{1}{n} \sum_i g_i g_i^\top = A^\top A / n

    the empirical Fisher with the true labels; ``centered`` gives the covariance,
    :math:`G - \bar g \bar g^\top`. Its non-zero eigenvalues are those of :math:`K / n = A A^\top
    / n`, or of G itself where there are fewer parameters than samples: float64, with an error of
    about 1e-16 of the largest. O(n^3) after K.

    Args:
        factors: From :func:`~grokscope.gradients.capture`.
        layer: One of its layers; None for the whole.
        centered: Covariance in place of the second moment.
        exact_limit: Where both sides of A are longer, only the ``top_k`` largest eigenvalues, by
            Lanczos iteration (ARPACK) on products with A and its transpose.
        top_k: How many.
        n_directions: Eigenvectors, from those of K / n as :math:`A^\top u / \sqrt{n \lambda}`.

    Raises:
        ValueError: If an argument is out of range.
    """
    require_int("top_k", top_k)
    require_int("exact_limit", exact_limit)
    part = _Part(factors, layer, centered)
    if min(part.n, part.size) > exact_limit:
        return part.estimated(top_k, n_directions)
    return part.exact(None, n_directions)


def sample_spectra(
    factors: Factors,
    *,
    centered: bool = False,
    exact_limit: int = EXACT_LIMIT,
    top_k: int = 100,
    n_directions: int = 0,
) -> tuple[SampleSpectrum, dict[str, SampleSpectrum]]:
    """:func:`sample_gop` of the whole, with directions, and of every layer.

    K of the whole is the sum of the layers': nothing is multiplied twice. Memory: two (n, n)
    float64 matrices where the spectra are exact.
    """
    if factors.n_samples > exact_limit:
        each = partial(sample_gop, centered=centered, exact_limit=exact_limit, top_k=top_k)
        layers = {name: each(factors, name) for name in factors.layers}
        return each(factors, n_directions=n_directions), layers
    total, layers = None, {}
    for name in factors.layers:
        gram = factors.gram(name, centered=centered)
        layers[name] = _Part(factors, name, centered).exact(gram)
        total = gram if total is None else total.add_(gram)
    return _Part(factors, None, centered).exact(total, n_directions), layers


@dataclass(frozen=True)
class _Part:
    """The whole net or a layer, centred or not."""

    factors: Factors
    layer: str | None
    centered: bool

    @property
    def n(self) -> int:
        return self.factors.n_samples

    @property
    def size(self) -> int:
        layout = self.factors.layout
        if self.layer is None:
            return layout.size
        return layout.layer_sizes()[layout.layers.index(self.layer)]

    def exact(self, gram: Tensor | None, n_directions: int = 0) -> SampleSpectrum:
        """From the smaller of K / n and G."""
        small = self.size < self.n
        if small:
            matrix = self._second_moment()
        elif gram is None:
            matrix = self.factors.gram(self.layer, centered=self.centered) / self.n
        else:
            matrix = gram / self.n
        values = gram_eigenvalues(matrix)
        directions = None
        if n_directions and np.isfinite(values).all():
            dense = matrix.cpu().numpy()
            largest, vectors = _largest(aslinearoperator(dense), n_directions)
            directions = torch.from_numpy(vectors) if small else self._map(largest, vectors)
        return SampleSpectrum(values, self.size, float(matrix.trace()), None, directions)

    def estimated(self, top_k: int, n_directions: int) -> SampleSpectrum:
        """The largest eigenvalues of K / n, without K."""
        trace = gradient_statistics(self.factors, self.layer).trace(self.centered)
        if not np.isfinite(trace):
            unknown = np.full(top_k, NAN)
            return SampleSpectrum(unknown, self.size, trace, unknown)
        operator = LinearOperator((self.n, self.n), self._product, dtype=np.float64)
        values, vectors = _largest(operator, max(top_k, n_directions))
        errors = [operator @ u - value * u for value, u in zip(values, vectors, strict=True)]
        directions = self._map(values, vectors[:n_directions]) if n_directions else None
        residuals = np.linalg.norm(errors, axis=1)
        return SampleSpectrum(values[:top_k], self.size, trace, residuals[:top_k], directions)

    def _second_moment(self) -> Tensor:
        rows = self.factors.dense(self.layer, max_bytes=8 * self.n * self.size)
        rows = rows - rows.mean(0) if self.centered else rows
        return rows.T @ rows / self.n

    def _product(self, u: Array) -> Array:
        """K u / n."""
        found = self.factors.jvp(self._pulled(u.reshape(1, -1)), self.layer)[0] / self.n
        return (found - found.mean() if self.centered else found).cpu().numpy()

    def _pulled(self, u: Array) -> Tensor:
        """Aᵀu (k, m) of vectors (k, n)."""
        weights = torch.from_numpy(np.array(u, dtype=np.float64))
        if self.centered:
            weights = weights - weights.mean(1, keepdim=True)
        return self.factors.vjp(weights, self.layer)

    def _map(self, values: Array, vectors: Array) -> Tensor:
        """Eigenvectors of G (k, m) from those of K / n (k, n)."""
        count = int((values[: len(vectors)] > RANK_LIMIT * max(values[0], TINY)).sum())
        scale = torch.from_numpy(np.sqrt(self.n * values[:count]))
        pulled = self._pulled(vectors[:count])
        return pulled / scale.to(pulled.device)[:, None]


def _largest(operator: LinearOperator, k: int) -> tuple[Array, Array]:
    """Eigenvalues (k,), descending and not negative, and unit eigenvectors (k, n)."""
    n = operator.shape[0]
    if k >= n - 1:
        dense = operator @ np.eye(n)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
    else:
        start = np.random.default_rng(0).standard_normal(n)
        values, vectors = eigsh(operator, k, which="LA", v0=start)
    order = np.argsort(-values)[:k]
    return np.maximum(values[order], 0.0), np.ascontiguousarray(vectors[:, order].T)


@dataclass(frozen=True)
class GradientStatistics:
    r"""What the per-sample gradients say without a spectrum.

    Attributes:
        n_samples: n.
        mean_square: Mean of |g_i|^2, the trace of the ``sample`` GOP.
        square_mean: |mean of g_i|^2.
    """

    n_samples: int
    mean_square: float
    square_mean: float

    def trace(self, centered: bool) -> float:
        """Of the second moment, or of the covariance."""
        return self.mean_square - self.square_mean if centered else self.mean_square

    @property
    def noise_scale(self) -> float:
        r"""tr(Cov) / |mean|^2, the simple noise scale in samples (McCandlish et al. 2018).

        arXiv:1812.06162, equation 2.9, with the covariance over these n samples (divided by n).
        """
        return self.trace(True) / self.square_mean if self.square_mean else NAN

    @property
    def coherence(self) -> float:
        r"""|sum of g_i|^2 / (n sum of |g_i|^2), from 0 to 1: all samples pull the same way."""
        return self.square_mean / self.mean_square if self.mean_square else NAN


def gradient_statistics(factors: Factors, layer: str | None = None) -> GradientStatistics:
    """Norms of the per-sample gradients and of their mean, without K: O(n m)."""
    squares = factors.sample_norms(layer).square()
    mean = factors.mean_gradient(layer)
    return GradientStatistics(factors.n_samples, float(squares.mean()), float(mean @ mean))
