"""Whether what a run has left is that of another one, byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

FILES = ("metrics.h5", "gop_layers.h5", "gop_full.h5")
KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "rng", "callbacks")


def stored(run: Path) -> dict[str, Any]:
    """Every dataset, with its type and shape, and every attribute."""
    found: dict[str, Any] = {}

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[f"{file}:{name}"] = (node.dtype.str, node.shape, node[()].tobytes())
        found.update({f"{file}:{name}@{k}": str(v) for k, v in node.attrs.items()})

    for file in FILES:
        with h5py.File(run / file, "r") as opened:
            take("", opened)
            opened.visititems(take)
    return found


def epochs_of(run: Path) -> dict[str, list[int]]:
    """Epochs of every table."""
    found: dict[str, list[int]] = {}
    for file in FILES:
        with h5py.File(run / file, "r") as opened:
            opened.visititems(
                lambda name, node, file=file: (
                    found.update({f"{file}:{name}": node[()].tolist()})
                    if name.split("/")[-1] == "epoch"
                    else None
                )
            )
    return found


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def events(run: Path) -> dict[str, int]:
    return json.loads((run / "run.json").read_text())["events"]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two checkpoints are not bit-equal; NaN equals NaN."""
    if type(ours) is not type(theirs):
        return [f"{path}: {type(ours)} and {type(theirs)}"]
    if isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            return [f"{path}: {sorted(map(str, ours))} and {sorted(map(str, theirs))}"]
        pairs = {str(key): (ours[key], theirs[key]) for key in ours}
    elif isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            return [f"{path}: {len(ours)} and {len(theirs)} entries"]
        pairs = {str(i): pair for i, pair in enumerate(zip(ours, theirs, strict=True))}
    elif isinstance(ours, torch.Tensor):
        same = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        same = same and torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (ours, theirs)))
        return [] if same else [f"{path}: tensors of {ours.dtype} and {theirs.dtype}"]
    else:
        return [] if repr(ours) == repr(theirs) else [f"{path}: {ours!r} and {theirs!r}"]
    return [line for key, pair in pairs.items() for line in differences(*pair, f"{path}/{key}")]


def assert_same(run: Path, whole: Path, *, history: bool = True) -> None:
    """Everything that a run leaves is that of the uninterrupted one.

    Args:
        run: A run that was stopped.
        whole: One that was not.
        history: Whether ``train.log`` has each event exactly once.
    """
    for table, found in epochs_of(run).items():
        assert (np.diff(found) > 0).all(), f"{table} has an epoch twice"
    ours, theirs = stored(run), stored(whole)
    assert sorted(ours.keys() ^ theirs.keys()) == []
    assert sorted(name for name in ours if ours[name] != theirs[name]) == []
    assert (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    mine, other = last(run), last(whole)
    for name in ("epoch", "global_step", "initial_student", *KEPT):
        assert differences(mine.get(name), other.get(name), name) == []
    assert all(mine[name] is not None for name in KEPT)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert events(run) == events(whole)
    drafts = (".part", ".live", ".final")
    assert [p.name for p in run.rglob("*") if p.name.endswith(drafts)] == []
    log = (run / "train.log").read_text()
    for name, epoch in events(run).items() if history else ():
        word = "begins to rise" if name == "onset" else name.capitalize()
        assert len(re.findall(rf"{word} at epoch {epoch}\b", log)) == 1, name
