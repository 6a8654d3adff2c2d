"""Runs an entry point in this process, as ``python src/train.py ...`` does."""

from __future__ import annotations

import logging
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from grokscope import Run, runs

ROOT = Path(__file__).parents[1]
SET_BY_THE_COMMAND = ("HYDRA_FULL_ERROR", "GROKSCOPE_TRACEBACK")


@contextmanager
def put_back(script: str, *arguments: str) -> Iterator[None]:
    """The state of the process that a command changes, as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"src/{script}.py", *arguments])
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))
        asked = os.environ.get("HYDRA_FULL_ERROR", "0")
        for name in SET_BY_THE_COMMAND:
            patch.setenv(name, asked)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)
            torch.use_deterministic_algorithms(False)
            enable_loggers()


def enable_loggers() -> None:
    """Hydra disables all loggers for a command that logs nothing, as evaluation."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


def call(script: str, *arguments: str) -> None:
    """``python src/<script>.py *arguments``."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    with put_back(script, *arguments):
        runpy.run_path(str(ROOT / "src" / f"{script}.py"), run_name="__main__")


def train(log_dir: Path, *overrides: str) -> Run:
    """Train and open the newest run."""
    call("train", f"paths.log_dir={log_dir}", *overrides)
    return max(runs(log_dir), key=lambda run: run.path.stat().st_mtime)
