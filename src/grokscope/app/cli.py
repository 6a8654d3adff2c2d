"""Runs a task under Hydra; whatever fails is one line and exit code 1."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grokscope.app.errors import TRACEBACK, UserError, as_user_error, refuse
from grokscope.app.folders import run_folder
from grokscope.app.output import keep_going_without_output
from grokscope.app.overrides import check_arguments, describe_hydra_error
from grokscope.app.paths import expand_home

FULL = "HYDRA_FULL_ERROR"
INTERRUPTED = 130
Task = Callable[[DictConfig], Any]


def run(task: Task, configs: Path, name: str) -> None:
    """Compose ``configs/<name>.yaml`` with the command line and call ``task`` with it.

    The exit code is 0, 1 for an error, and 130 for a run that Ctrl-C stopped. Set the
    environment variable ``HYDRA_FULL_ERROR=1`` for tracebacks.
    """
    keep_going_without_output()
    register_resolvers()
    os.environ.setdefault(TRACEBACK, os.environ.get(FULL, "0"))
    os.environ[FULL] = "1"  # Hydra then raises instead of printing; the lines below print
    try:
        check_arguments()
        hydra.main(version_base="1.3", config_path=str(configs), config_name=name)(guard(task))()
    except (HydraException, OmegaConfBaseException) as error:
        refuse(describe_hydra_error(error, configs, name, sys.argv[1:]))
    except UserError as error:  # of a sweep as a whole
        _refuse(error)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:  # of the files that Hydra writes
        _refuse(_of_hydra(error))
    except Exception as error:
        if "Config group override" in str(error):
            refuse(describe_hydra_error(error, configs, name, sys.argv[1:]))
        if isinstance(error.__cause__, OSError):  # of a log that Hydra opens
            _refuse(_of_hydra(error.__cause__))
        if _of_optuna(error):
            refuse(f"hydra.sweeper: {str(error) or repr(error)}")
        _refuse(as_user_error(error, OmegaConf.create({})))


def _of_optuna(error: Exception) -> bool:
    """Whether Optuna refuses its settings, or has no trial that it could name the best."""
    frames = traceback.walk_tb(error.__traceback__)
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in frames]
    ours = any(name.startswith("grokscope.app.sweeps") for name in modules)
    return not ours and any("optuna" in name for name in modules)


def _of_hydra(error: OSError) -> UserError:
    """Hydra has its own files in the folder of a run or sweep, and names none of them."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or error.errno is None:
        return as_user_error(error, OmegaConf.create({}))
    key, folder = "hydra.run.dir", hydra.run.dir
    if hydra.mode == RunMode.MULTIRUN:
        key, folder = "hydra.sweep.dir", hydra.sweep.dir
    where = error.filename or folder
    return UserError(f"{key} must be a folder to write into, got {where}: {error.strerror}.")


def guard(task: Task) -> Task:
    """End the process at a user's error, before Hydra adds lines of its own.

    In a sweep the other runs go on, so there it is raised as one :class:`UserError`.
    """

    @wraps(task)
    def guarded(config: DictConfig) -> Any:
        try:
            expand_home(config)
            return task(config)
        except Exception as error:
            told = as_user_error(error, config)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _refuse(told)
            if told is error:
                raise
            raise told from error

    return guarded


def _refuse(error: UserError) -> NoReturn:
    refuse(f"{error}{error.hint}")


def register_resolvers() -> None:
    """What the configurations may compute: ``${times:2,3}``, ``${plus:1,2}``, run folders."""
    resolver = OmegaConf.register_new_resolver
    resolver("times", lambda a, b: a * b, replace=True)
    resolver("plus", lambda a, b: a + b, replace=True)
    resolver("run_folder", run_folder, replace=True, use_cache=True)  # one clock time a run
