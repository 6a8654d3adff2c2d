"""Settings of Hydra itself: which of them have an effect here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from grokscope.app.errors import UserError
from grokscope.app.overrides import is_of_a_run
from grokscope.app.paths import check_name

OF_A_SWEEP = ("hydra.sweep", "hydra.sweeper", "hydra.launcher", "hydra/sweeper", "hydra/launcher")
OF_A_RUN = ("hydra.run",)
RUN_DIR = "${hydra:runtime.output_dir}"  # of configs/paths/default.yaml


def check_hydra_settings(config: DictConfig) -> None:
    """Refuse what Hydra would take without effect.

    Raises:
        UserError: Naming the key.
    """
    sweeps = config.hydra.mode == RunMode.MULTIRUN
    for typed in config.hydra.overrides.hydra:
        key = str(typed).partition("=")[0].lstrip("+~").partition("@")[0]
        if _is_of(key, OF_A_RUN if sweeps else OF_A_SWEEP):
            cure = "hydra.sweep.dir says where a sweep goes" if sweeps else "add --multirun"
            raise UserError(f"{key} must be left out {_where(sweeps)}: {cure}.")
    plain: Any = OmegaConf.to_container(config, resolve=False)
    if (came := (plain.get("paths") or {}).get("run_dir", RUN_DIR)) != RUN_DIR:
        where = "hydra.sweep.dir" if sweeps else "hydra.run.dir"
        raise UserError(f"paths.run_dir must be left out, got {came}: type {where} instead.")
    for source in config.hydra.runtime.config_sources:
        if source.provider.startswith("hydra.search") and is_of_a_run(Path(source.path)):
            raise UserError(
                f"hydra.searchpath must name folders of configurations, got {source.path}: it is "
                "a run's, which may be a stranger's."
            )
    if config.hydra.job.chdir:
        raise UserError(
            f"hydra.job.chdir must be false, got {config.hydra.job.chdir}: paths are those of the "
            "folder in which a command is typed."
        )
    if config.hydra.output_subdir is not None and config.hydra.output_subdir != ".hydra":
        check_name("hydra.output_subdir", config.hydra.output_subdir)


def _is_of(key: str, nodes: tuple[str, ...]) -> bool:
    return any(key == node or key.startswith((f"{node}.", f"{node}/")) for node in nodes)


def _where(sweeps: bool) -> str:
    return "with --multirun" if sweeps else "without --multirun"
