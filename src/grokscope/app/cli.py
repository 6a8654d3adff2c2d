"""Runs a task under Hydra; every mistake of the user is one line and exit code 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grokscope.app.errors import (
    UserError,
    describe_hydra_error,
    describe_instantiation_error,
    refuse,
)
from grokscope.app.folders import run_folder

USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)
FULL = "HYDRA_FULL_ERROR"


def run(task: Callable[[DictConfig], Any], configs: Path, name: str) -> None:
    """Compose ``configs/<name>.yaml`` with the command line and call ``task`` with it.

    Set the environment variable ``HYDRA_FULL_ERROR=1`` for tracebacks.
    """
    register_resolvers()
    wants_traceback = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # Hydra then raises instead of printing; the lines below print
    try:
        hydra.main(version_base="1.3", config_path=str(configs), config_name=name)(task)()
    except USER_ERRORS as error:
        if wants_traceback:
            raise
        refuse(_describe(error, configs, name))


def _describe(error: Exception, configs: Path, name: str) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, InstantiationException):
        return describe_instantiation_error(error)
    return describe_hydra_error(error, configs, name, sys.argv[1:])


def register_resolvers() -> None:
    """What the configurations may compute: ``${times:2,3}``, ``${plus:1,2}``, run folders."""
    for name, function in (
        ("times", lambda a, b: a * b),
        ("plus", lambda a, b: a + b),
        ("run_folder", run_folder),
    ):
        OmegaConf.register_new_resolver(name, function, replace=True)
