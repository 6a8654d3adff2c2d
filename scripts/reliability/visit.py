"""Everything that a user does with a run folder, a checkpoint or a data file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import grokscope
from grokscope import Run
from grokscope.analysis.summary import summary_rows
from grokscope.app.checkpoints import newest_whole, read_checkpoint
from grokscope.app.errors import UserError
from grokscope.app.run_settings import run_settings
from grokscope.app.stored import read_settings
from grokscope.data.idx import read_idx
from grokscope.store.run_writer import FULL, LAYERS, METRICS
from grokscope.store.views import KINDS

Deed = tuple[str, Callable[[], Any]]
ASKED = ("kind must be", "epoch ", "layer must be", "'epoch ", "'layer must be")
"""Starts of errors about what was asked for, which say what there is."""


def refusals(path: Path, kind: str) -> list[str]:
    """Errors of all deeds: "" for one as documented, which names the file, else its text."""
    found = []
    for name, deed in deeds(path, kind):
        try:
            deed()
        except Exception as error:
            found.append("" if _documented(error, path) else f"{name}: {error!r}"[:400])
    return found


def _documented(error: Exception, path: Path) -> bool:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, (KeyError, ValueError)) and text.startswith(ASKED):
        return True
    known = isinstance(error, (ValueError, FileNotFoundError, UserError))
    return known and path.name in text and not isinstance(error, UnicodeError)


def deeds(path: Path, kind: str) -> Iterator[Deed]:
    if path.parent.name == "checkpoints":
        yield "read_checkpoint", lambda: read_checkpoint(path)
        yield "newest_whole", lambda: newest_whole(path.parents[1])
    elif kind.startswith("IDX"):
        yield "read_idx", lambda: read_idx(path)
    else:
        yield from _of_run(path.parent, path.name)
        if path.suffix == ".yaml":
            yield "run_settings", lambda: _settings(path.parent)


def _settings(folder: Path) -> Any:
    """As ``src/eval.py`` uses them."""
    read_settings(folder)
    return run_settings(folder)


def _of_run(folder: Path, damaged: str) -> Iterator[Deed]:
    """What may meet the damaged file."""
    run = Run.open(folder)
    for name in ("name", "status", "info", "config", "layers"):
        yield name, lambda name=name: repr(getattr(run, name))  # type: ignore[misc]
    yield "repr", lambda: repr(run)
    yield "runs", lambda: [repr(found) for found in grokscope.runs(folder.parent)]
    yield "grokking", run.grokking_as_configured
    yield "summary", lambda: list(summary_rows(run))
    if damaged == FULL:
        yield "factors", lambda: _factors(run)
    if damaged in (METRICS, LAYERS):
        yield "metrics", lambda: _metrics(run, damaged)
        for kind in KINDS:
            yield f"spectra of {kind}", lambda kind=kind: _spectra(run, kind)  # type: ignore[misc]


def _metrics(run: Run, damaged: str) -> None:
    metrics = run.metrics
    repr(metrics)
    for name in metrics:
        if ("/layers/" in name) == (damaged == LAYERS):
            len(metrics[name])


def _spectra(run: Run, kind: str) -> None:
    for epoch in run.epochs(kind)[-1:]:
        for layer in [None, *run.layer_names(kind)[:1]]:
            run.spectrum(kind, int(epoch), layer)


def _factors(run: Run) -> None:
    for epoch in run.epochs("factor")[-1:]:
        gop = run.gop(int(epoch))
        repr(gop)
        gop[0:3, :2], gop @ np.zeros(gop.shape[0])
        layer = run.layers[0]
        run.gop(int(epoch), layer=layer)[0:2, 0]
        run.gop(int(epoch), "weight", layer)[0, 0]
