"""Reads checkpoints that may come from anybody."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch

from grokscope.app.errors import UserError

NEEDED = {"state_dict", "epoch", "global_step", "loops", "optimizer_states"}


class _HasState(Protocol):
    def state_dict(self) -> dict[str, Any]: ...


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of tensors and plain values; nothing in it is executed.

    Raises:
        UserError: If the file is not a Lightning checkpoint of that sort.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError):
        raise UserError(f"ckpt_path must be a checkpoint of a run, got {path}: not one.") from None
    missing = NEEDED - set(content if isinstance(content, dict) else ())
    if missing or "hyper_parameters" in content:
        detail = f"no {', '.join(sorted(missing))}" if missing else "it names a class to build"
        raise UserError(
            f"ckpt_path must be a checkpoint of a grokscope run, got {path}: {detail}."
        )
    return content


def check_architecture(path: Path, content: dict[str, Any], module: _HasState) -> None:
    """Refuse a checkpoint whose parameters are not the module's.

    Raises:
        UserError: Naming the first parameter that differs.
    """
    theirs = {name: tuple(t.shape) for name, t in content["state_dict"].items()}
    ours = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            raise UserError(
                f"ckpt_path must hold this network, got {path}: parameter {name} has shape "
                f"{theirs.get(name, 'none')} there and {ours.get(name, 'none')} here."
            )
