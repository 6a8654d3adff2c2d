"""Figures of a run for papers: every panel, sorted weights and activations, films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from grokscope.analysis.figures import (
    PAPER,
    animate,
    draw_sorted_inputs,
    draw_sorted_weights,
    fourier_norms,
    save_panels,
    write_figure,
)
from grokscope.analysis.panels import Lines, Matrices, Panel, Spectrum, panels
from grokscope.analysis.run import Run
from grokscope.app.build import build_model
from grokscope.app.building import building
from grokscope.app.checkpoints import check_architecture, read_checkpoint
from grokscope.app.folders import FIGURES, by_age
from grokscope.app.run_settings import run_settings
from grokscope.measures.weights import normalize_scale, remove_bias
from grokscope.store.nofollow import subfolder


def save_paper_figures(run: Run, formats: Sequence[str]) -> list[Path]:
    """Every panel, and of a two-layer net on one-hot pairs its weights and hidden units."""
    folder = subfolder(run.path, FIGURES, create=True)
    found = panels(run, points=4000)
    saved = save_panels(found, folder, formats, times=run.grokking_as_configured())
    return [*saved, *_heat_maps(run, folder, formats)]


def save_films(run: Run) -> list[Path]:
    """Spectra, matrices and Fourier norms over training as GIF."""
    folder = subfolder(run.path, FIGURES, create=True)
    saved = [
        animate(film, folder / f"{panel.key}.gif", title=panel.title)
        for panel in panels(run)
        if (film := _film(panel)) is not None
    ]
    for matrix in ("W_E", "W_L"):
        if f"circuits/{matrix}_fourier_norms" in run.metrics:
            path = folder / f"fourier_{matrix}.gif"
            saved.append(animate(fourier_norms(run, matrix), path))
    return saved


def _film(panel: Panel) -> Spectrum | Matrices | None:
    """What moves in a panel."""
    first = panel.choices[0]
    return None if isinstance(first, Lines) or len(first.epochs) < 2 else first


def _heat_maps(run: Run, folder: Path, formats: Sequence[str]) -> Iterator[Path]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    layers = _two_layers(run)
    if layers is None:
        return
    first, last, hidden, modulus = layers
    for name in ("sorted_weights", "sorted_units"):
        with rc_context(PAPER):
            figure = Figure(figsize=(7, 4), layout="constrained")
            if name == "sorted_weights":
                draw_sorted_weights(first, last, modulus, figure)
            else:
                draw_sorted_inputs(hidden, modulus, figure)
            for each in formats:
                path = folder / f"{name}.{each}"
                yield write_figure(figure, path, dpi=200, metadata=UNDATED[each])


UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "png": {}}
Layers = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def _two_layers(run: Run) -> Layers | None:
    """First and last weights, hidden units on all pairs, and p; None for another net or task.

    The bias goes into the weights, and ReLU units are scaled to read at most 1: neither changes
    the function.
    """
    modulus, checkpoints = _modulus(run), by_age(run.path)
    if modulus is None or not checkpoints:
        return None
    settings = run_settings(run.path)
    with building(run.path):
        return _drawn_layers(settings, checkpoints[0], modulus)


def _drawn_layers(settings: DictConfig, checkpoint: Path, modulus: int) -> Layers | None:
    _, model = build_model(settings, weights_follow=True)
    net: Any = model.net
    layers: Any = getattr(net, "layers", ())
    if len(layers) != 2 or layers[0].weight.shape[1] != 2 * modulus:
        return None
    content = read_checkpoint(checkpoint)
    check_architecture(checkpoint, content, model, key="run")
    model.load_state_dict(content["state_dict"])
    first, last = _simplest(net)
    of_a, of_b = first.split(modulus, dim=1)
    before = (of_a[:, :, None] + of_b[:, None, :]).flatten(1).T
    hidden = before.clamp_min(0) if net.activation == "relu" else before
    return first.numpy(), last.numpy(), hidden.numpy(), modulus


def _modulus(run: Run) -> int | None:
    data = run.config.get("data")
    modulus = data.get("modulus") if isinstance(data, dict) else None
    return modulus if isinstance(modulus, int) else None


@torch.no_grad()
def _simplest(net: Any) -> tuple[torch.Tensor, torch.Tensor]:
    layers: Sequence[nn.Linear] = net.layers
    first, last = layers[0].weight.double(), layers[1].weight.double()
    if layers[0].bias is not None:
        first = remove_bias(first, layers[0].bias.double())
    if net.activation == "relu":
        first, last, _ = normalize_scale(first, last)
    return first, last
