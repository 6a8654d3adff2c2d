"""Kinds of gradient outer product that need samples of their own, beside the training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed, nn

from grokscope.callbacks.measurement import Measurement, Recorded
from grokscope.callbacks.probe import Probe
from grokscope.callbacks.rows import ANSATZ, STATISTICS, padded
from grokscope.gradients import Factors, capture, gather
from grokscope.gradients.layout import gradient_layout
from grokscope.measures.feature_ansatz import feature_ansatz
from grokscope.measures.gop import GOP, input_gop
from grokscope.measures.layer_gop import layer_input_gops, weight_layers
from grokscope.measures.sample_gop import SampleSpectrum, gradient_statistics, sample_spectra

NAN = float("nan")
OVERLAP_K = 10
PROBE_KINDS = frozenset({"sample", "input"})
Spectrum = SampleSpectrum | GOP


class ProbeKind(Recorded, Protocol):
    """A kind that is measured from the net at its present weights."""

    def measure(self, module: nn.Module) -> Measurement | None:
        """Measure at the present weights; None in a process that only takes part."""


@dataclass
class SampleKind(ProbeKind):
    """Second moment of the per-sample gradients at the probe.

    In a distributed run each process takes its share of the probe; the first one measures.

    Args:
        module: What is trained.
        probe: Samples and loss.
        top_k: Eigenvalues stored.
        rank_threshold: Relative threshold of the numerical rank.
        max_bytes: Memory for factors.
        centered: The covariance in place of the second moment.
    """

    module: nn.Module
    probe: Probe
    top_k: int
    rank_threshold: float
    max_bytes: int
    centered: bool = False
    name: str = "sample"

    def __post_init__(self) -> None:
        net = self.probe.network(self.module)
        self.layers = gradient_layout(net.named_parameters()).layers
        self.width = min(self.top_k, len(self.probe))
        self._previous: Tensor | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """Probe, centring, mode and precision."""
        known = {"n_samples": len(self.probe), "mode": "eval", "precision": "float64"}
        return known | {"centered": int(self.centered), "overlap_k": min(OVERLAP_K, self.width)}

    def measure(self, module: nn.Module) -> Measurement | None:
        """Spectra, noise scale and coherence, overlap with the last measured epoch."""
        own = self.probe.take(torch.arange(_rank(), len(self.probe), _processes()))
        net = self.probe.network(module)
        settings: dict[str, Any] = {"max_bytes": self.max_bytes}
        factors = gather(capture(net, own.loss, own.inputs, own.targets, **settings))
        return self._measured(factors) if _rank() == 0 else None

    def _measured(self, factors: Factors) -> Measurement:
        k = min(OVERLAP_K, self.width)
        whole, layers = sample_spectra(
            factors, centered=self.centered, top_k=self.width, n_directions=k
        )
        found = {"subspace_overlap": self._overlap(whole.directions)}
        return stacked(
            _row(whole, self, found | _statistics(factors, None) | _residual(whole)),
            [
                _row(layers[name], self, _statistics(factors, name) | _residual(layers[name]))
                for name in self.layers
            ],
        )

    def _overlap(self, directions: Tensor | None) -> float:
        now = None if directions is None else directions.float().cpu()
        previous, self._previous = self._previous, now
        if previous is None or now is None or not (k := min(len(previous), len(now))):
            return NAN
        return float((previous[:k].double() @ now[:k].double().T).square().sum() / k)

    def state(self) -> dict[str, Any]:
        """The last measured directions (k, m), float32."""
        return {"previous": self._previous}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._previous = state["previous"]


@dataclass
class InputKind(ProbeKind):
    """Average gradient outer products at the input of the net and of its layers (AGOP).

    The whole is that of the input where this is numbers, and of the first embedding's output,
    all positions flattened, where it is tokens. Arguments as for :class:`SampleKind`.
    """

    module: nn.Module
    probe: Probe
    top_k: int
    rank_threshold: float
    max_bytes: int
    name: str = "input"

    def __post_init__(self) -> None:
        if not isinstance(self.probe.inputs, Tensor):
            raise ValueError("kinds must not hold 'input' for a net of several inputs.")
        self._inputs = self.probe.inputs
        net = self.probe.network(self.module)
        first = layer_input_gops(net, self._inputs[:2], max_bytes=self.max_bytes)
        if not first:
            raise ValueError("kinds must not hold 'input' for a net without linear layers.")
        self.layers = tuple(first)
        modules = weight_layers(net)
        self._embeddings = [n for n in self.layers if isinstance(modules[n], nn.Embedding)]
        if not self._inputs.is_floating_point() and not self._embeddings:
            raise ValueError("kinds must not hold 'input' for tokens without an embedding layer.")
        self.width = min(self.top_k, max(gop.n_parameters for gop in first.values()))

    @property
    def attributes(self) -> dict[str, Any]:
        """Probe and mode."""
        return {"n_samples": len(self.probe), "mode": "eval"}

    def measure(self, module: nn.Module) -> Measurement | None:
        """Spectra, and the neural feature ansatz of each linear layer."""
        if _rank():
            return None
        net = self.probe.network(module)
        layers = layer_input_gops(net, self._inputs, max_bytes=self.max_bytes)
        if self._inputs.is_floating_point():
            whole = input_gop(net, self._inputs, max_bytes=self.max_bytes)
        else:
            whole = layers[self._embeddings[0]]
        rows = [_row(layers[name], self, self._ansatz(net, name, layers)) for name in self.layers]
        return stacked(_row(whole, self, {}), rows)

    def _ansatz(self, net: nn.Module, name: str, layers: Mapping[str, GOP]) -> dict[str, float]:
        """cos(W^T W, G) and cos(W^T W, root of G)."""
        if name in self._embeddings:
            return dict.fromkeys(ANSATZ, NAN)
        weight = weight_layers(net)[name].weight
        powers = zip(ANSATZ, (1.0, 0.5), strict=True)
        return {key: feature_ansatz(weight, layers[name], power) for key, power in powers}

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


def _row(spectrum: Spectrum, kind: Any, extra: Mapping[str, float]) -> dict[str, Any]:
    """All metrics of one spectrum, and its largest eigenvalues, padded with NaN."""
    metrics = spectrum.metrics(rank_threshold=kind.rank_threshold, top_k=kind.top_k)
    return {**metrics, **extra, "eigenvalues_top_k": padded(spectrum.eigenvalues, kind.width)}


def stacked(whole: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> Measurement:
    """One pass: the whole, and the layers side by side."""
    return Measurement(
        {name: np.array([value]) for name, value in whole.items()},
        {name: np.array([[layer[name] for layer in layers]]) for name in layers[0]},
    )


def _statistics(factors: Factors, layer: str | None) -> dict[str, float]:
    found = gradient_statistics(factors, layer)
    values = (found.square_mean**0.5, found.noise_scale, found.coherence)
    return dict(zip(STATISTICS, values, strict=True))


def _residual(spectrum: SampleSpectrum) -> dict[str, float]:
    """Largest error of a stored eigenvalue, relative to the largest of all; NaN if exact."""
    if spectrum.residuals is None or not len(spectrum.residuals):
        return {"residual": NAN}
    return {"residual": float(spectrum.residuals.max() / max(spectrum.eigenvalues[0], 1e-300))}


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1
