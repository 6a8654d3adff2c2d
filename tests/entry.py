"""Runs an entry point in this process, as ``python src/train.py ...`` does."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from grokscope import Run, runs

ROOT = Path(__file__).parents[1]
SET_BY_THE_COMMAND = ("HYDRA_FULL_ERROR", "GROKSCOPE_TRACEBACK")


def call(script: str, *arguments: str) -> None:
    """``python src/<script>.py *arguments``."""
    GlobalHydra.instance().clear()
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"src/{script}.py", *arguments])
        for name in SET_BY_THE_COMMAND:
            patch.setenv(name, os.environ.get(name, "0"))  # put back after it
        try:
            runpy.run_path(str(ROOT / "src" / f"{script}.py"), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(False)


def train(log_dir: Path, *overrides: str) -> Run:
    """Train and open the newest run."""
    call("train", f"paths.log_dir={log_dir}", *overrides)
    return max(runs(log_dir), key=lambda run: run.path.stat().st_mtime)
