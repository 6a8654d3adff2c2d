"""Panels of gradient outer products: metrics by kind, and their spectra."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.panels.captions import KINDS, METRICS
from grokscope.analysis.panels.model import Lines, Panel, Series, Spectrum
from grokscope.analysis.panels.source import Source, merged, shown

SECTION = "Gradient outer products"
EIGENVALUES = "eigenvalues_top_k"
FEWEST = 2  # eigenvalues of a spectrum


def gop_panels(source: Source) -> Iterator[Panel]:
    """Shares of the layers, metrics of each kind, spectra of each kind."""
    kinds = [kind for kind in KINDS if f"gop/{kind}/epoch" in source]
    if "gop/batch/layers/grad_share" in source:
        yield from _shares(source)
    for kind in kinds:
        if metrics := tuple(_metrics(source, kind)):
            yield Panel(f"gop_{kind}", SECTION, f"GOP of kind {kind}", KINDS[kind], metrics)
    for kind in kinds:
        if spectra := tuple(_spectra(source, kind)):
            title = f"Eigenvalues of the {kind} GOP"
            caption = f"{KINDS[kind]} Largest eigenvalues, by rank, over training."
            yield Panel(f"spectrum_{kind}", SECTION, title, caption, spectra)


def _shares(source: Source) -> Iterator[Panel]:
    series = tuple(_by_layer(source, "batch", "grad_share"))
    if series:
        caption = (
            "Share of each layer in the squared norm of the gradient, and so in the trace of the "
            "batch GOP."
        )
        lines = Lines("share", METRICS["grad_share"][0], series)
        yield Panel("layer_shares", SECTION, "Which layer the gradient is in", caption, (lines,))


def _metrics(source: Source, kind: str) -> Iterator[Lines]:
    """One choice a metric: of the whole and of the layers."""
    there = {*source.columns(f"gop/{kind}"), *source.columns(f"gop/{kind}/layers")}
    known = [name for name in METRICS if name in there and name != "grad_share"]
    for name in [*known, *sorted(there - {*METRICS, EIGENVALUES})]:
        unit, log = METRICS.get(name, (shown(name), False))
        whole = []
        if name in source.columns(f"gop/{kind}"):
            whole = source.series(f"gop/{kind}", name, "whole", "whole")
        if series := merged([whole, list(_by_layer(source, kind, name))]):
            yield Lines(shown(name.replace("_", " ")), unit, series, log)


def _by_layer(source: Source, kind: str, name: str) -> Iterator[Series]:
    group = f"gop/{kind}/layers"
    if f"{group}/{name}" in source:
        values = source.read(group, name)
        if values.ndim == 2:
            names = source.layer_names(kind)
            yield from source.curves(group, zip(names, values.T, strict=False), "part")


def _spectra(source: Source, kind: str) -> Iterator[Spectrum]:
    """Of the whole, then of each layer with more than one eigenvalue."""
    group = f"gop/{kind}"
    yield from _spectrum(source, group, "whole", source.read(group, EIGENVALUES))
    layers = f"{group}/layers"
    if f"{layers}/{EIGENVALUES}" in source:
        values = source.read(layers, EIGENVALUES)
        for i, name in enumerate(source.layer_names(kind)):
            if values.ndim == 3 and i < values.shape[1]:
                yield from _spectrum(source, layers, name, values[:, i])


def _spectrum(source: Source, group: str, name: str, values: NDArray) -> Iterator[Spectrum]:
    if values.ndim != 2 or not len(values):
        return
    epochs, values = source.frames(group, values)
    used = np.flatnonzero((np.isfinite(values) & (values > 0)).any(0))
    if len(used) and used[-1] + 1 >= FEWEST:
        kept = values[:, : used[-1] + 1]
        yield Spectrum(shown(name), "eigenvalue", "rank", epochs, kept)
