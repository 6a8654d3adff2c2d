r"""Local complexity: how many units of a net change sign around a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grokscope.validation import require_float, require_int

Z99 = 2.5758293035489004  # quantile of the 99 % interval of a normal mean
CHUNK_SIZE = 64


@dataclass(frozen=True)
class LocalComplexity:
    """Units that cut the neighbourhood of each point.

    Attributes:
        counts: (n, layers) int64, in the order of ``layers``.
        units: (layers,) int64: units of each layer, so ``counts / units`` are shares.
        layers: Names of the modules whose outputs are the pre-activations.
    """

    counts: Tensor
    units: Tensor
    layers: tuple[str, ...]

    @property
    def total(self) -> Tensor:
        """Of each point, the sum over layers (n,)."""
        return self.counts.sum(1)

    @property
    def mean(self) -> float:
        """Mean total over the points."""
        return float(self.total.double().mean())

    @property
    def layer_means(self) -> Tensor:
        """Mean over the points (layers,) in float64."""
        return self.counts.double().mean(0)

    @property
    def half_width(self) -> float:
        """Half the 99 % interval of the mean, as of a normal mean; NaN for one point."""
        if len(self.counts) < 2:
            return float("nan")
        return float(Z99 * self.total.double().std() / len(self.counts) ** 0.5)


def local_complexity(
    net: nn.Module,
    points: Tensor,
    *,
    radius: float = 0.005,
    n_directions: int = 25,
    layers: Sequence[str] | None = None,
    directions: Tensor | None = None,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
) -> LocalComplexity:
    r"""Number of units whose zero set cuts a small cross-polytope around each point.

    .. math:: V_x = \{x \pm r\, q_p : p = 1 \dots P\}, \qquad
              \mathrm{LC}_l(x) = \#\{i : \mathrm{sign}\, h_{l,i} \text{ is not the same on } V_x\}

    with the pre-activations :math:`h_l` of layer l and orthonormal directions :math:`q_p`, the
    same for all points, all layers and all times. The centre is not among the vertices, and a
    pre-activation of exactly 0 has the sign 0, as in the released code. Unlike there, no global
    random state is touched.

    Cost: 2 P forward passes a point; memory: activations of 2 P ``chunk_size`` samples.

    Args:
        net: Called in the modes that it is in, without gradients; must treat samples separately.
        points: (n, ...), as the net takes them.
        radius: r. Published: 0.005; 1e-4 for ResNets.
        n_directions: P, at most the inputs' dimension d. Published: 25.
        layers: Names of modules whose outputs are pre-activations; None is :func:`preactivations`.
        directions: (P, d) in place of random ones.
        seed: Of the private generator that draws directions.
        chunk_size: Points at once.

    Returns:
        Counts by point and layer. In a convolution each channel at each place is a unit.

    Raises:
        ValueError: For an argument out of range, or a layer that is not there or is not called.

    Source:
        Humayun, Balestriero, Baraniuk 2024, arXiv:2402.15555; AhmedImtiazPrio/grok-adversarial:
        local_complexity.py, samplers.py.

    Example:
        >>> net = nn.Linear(2, 3, bias=False)
        >>> local_complexity(net, torch.zeros(1, 2), n_directions=2, radius=1.0).counts
        tensor([[3]])
    """
    require_float("radius", radius, above=0)
    require_int("chunk_size", chunk_size)
    if points.ndim < 2 or not points.numel():
        raise ValueError(f"points must be (n, ...) with n >= 1, got {tuple(points.shape)}.")
    if directions is None:
        directions = orthonormal_directions(n_directions, points[0].numel(), seed)
    offsets = radius * directions.to(points).reshape(-1, *points.shape[1:])
    offsets = torch.cat([offsets, -offsets])
    names = tuple(preactivations(net) if layers is None else layers)
    counts = []
    with _outputs_of(net, names) as seen, torch.no_grad():
        for chunk in points.split(chunk_size):
            seen.clear()
            net((chunk[:, None] + offsets).flatten(0, 1))
            if missing := [name for name in names if name not in seen]:
                raise ValueError(f"layers must be called by the net, got {missing[0]!r}.")
            counts.append(torch.stack([_cuts(seen[n], len(chunk)) for n in names], dim=1))
        units = torch.tensor([seen[name][0].numel() for name in names])
    return LocalComplexity(torch.cat(counts), units, names)


def preactivations(net: nn.Module) -> tuple[str, ...]:
    """Names of a net's own ``preactivations``, or else of all its linear layers, the last too.

    Raises:
        ValueError: If it has neither.
    """
    if own := getattr(net, "preactivations", None):
        return tuple(own)
    found = tuple(name for name, m in net.named_modules() if isinstance(m, nn.Linear))
    if not found:
        raise ValueError("layers must be given for a net without linear layers.")
    return found


def orthonormal_directions(n_directions: int, dimension: int, seed: int = 0) -> Tensor:
    """Orthonormal rows (P, d) in float64, from the QR decomposition of normal numbers.

    Raises:
        ValueError: If there cannot be so many.
    """
    require_int("n_directions", n_directions, maximum=dimension)
    generator = torch.Generator().manual_seed(require_int("seed", seed, minimum=0))
    normal = torch.randn(dimension, n_directions, dtype=torch.float64, generator=generator)
    return torch.linalg.qr(normal).Q.T


def _cuts(values: Tensor, n_points: int) -> Tensor:
    """Units with more than one sign among the vertices of each point (n_points,)."""
    signs = values.reshape(n_points, -1, values[0].numel()).sign()
    return (signs != signs[:, :1]).any(1).sum(1).cpu()


@contextmanager
def _outputs_of(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dict that the named modules write their outputs into."""
    modules, seen = dict(net.named_modules()), {}
    if unknown := [name for name in names if name not in modules]:
        raise ValueError(f"layers must name modules of the net, got {unknown[0]!r}.")

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen[name] = output.detach()

        return modules[name].register_forward_hook(hook)

    handles = [keep(name) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
