"""One run of a sweep, done by whatever process it was given to."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UnexpectedError, as_user_error
from grokscope.app.folders import (
    is_main_process,
    no_second_writer,
    refuse_links,
    refuse_links_between,
)
from grokscope.app.paths import set_path
from grokscope.app.resuming import can_go_on, clear, is_finished
from grokscope.store.info import read_info, update_info
from grokscope.store.lock import FolderLock, check_free
from grokscope.store.sweep import SweepRun

BY_NUMBER = "${hydra.job.num}"  # in configs/hydra/default.yaml
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a process needs to do any run of a sweep; goes to others by cloudpickle.

    Attributes:
        context: Hydra's loader and callbacks.
        task: Trains with a configuration.
        config: The sweep's.
        folder: The sweep's.
        singletons: Hydra's state.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    folder: Path
    singletons: Any = field(default_factory=Singleton.get_state)

    def do(self, run: SweepRun) -> None:
        """Bring a run to its end, from where it is; nothing is done for one that is finished.

        What it raises is written down in its ``run.json`` and ``train.log``.
        """
        Singleton.set_state(self.singletons)
        setup_globals()
        register_resolvers()
        folder = self.folder / run.folder
        refuse_links_between(self.folder, folder)
        try:
            if not is_finished(folder):
                self._train(self.job_config(run), folder)
        except Exception as error:
            note_failure(folder, error)

    def with_folder(self, run: SweepRun) -> SweepRun:
        """The run in the folder that ``hydra.sweep.subdir`` names, its number by default."""
        raw: Any = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        if raw["subdir"] == BY_NUMBER:
            return run
        hydra, config = HydraConfig.instance(), self._numbered(run)
        before, hydra.cfg = hydra.cfg, None
        try:
            hydra.set_config(config)  # for ${hydra:...}
            return replace(run, folder=str(config.hydra.sweep.subdir))
        finally:
            hydra.cfg = before

    def job_config(self, run: SweepRun) -> DictConfig:
        """The configuration of a run, Hydra's own included."""
        config = self._numbered(run)
        set_path(config, "hydra.sweep.dir", self.folder)
        set_path(config, "hydra.sweep.subdir", Path(run.folder))
        return config

    def _numbered(self, run: SweepRun) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, list(run.overrides))
        with read_write(config), open_dict(config.hydra):
            config.hydra.job.id = f"{config.hydra.job.name}_{run.number}"
            config.hydra.job.num = run.number
        return config

    def _train(self, config: DictConfig, folder: Path) -> None:
        refuse_links(folder)
        if can_go_on(folder):
            set_path(config, "ckpt_path", folder)
        elif is_main_process():
            _clear(folder)
        done = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        if done.status == JobStatus.FAILED:
            raise done._return_value  # done.return_value would print first


def _clear(folder: Path) -> None:
    if folder.exists():
        with no_second_writer(), FolderLock(folder):
            clear(folder)


def note_failure(folder: Path, error: Exception) -> None:
    """Write down why a run failed; a run that another process writes has not."""
    told = as_user_error(error, OmegaConf.create({}))
    text = str(told)
    log.error("%s failed: %s", folder, text)
    if isinstance(told, UnexpectedError):
        log.info("What failed:", exc_info=error)
    if not is_main_process():
        return
    with suppress(OSError, ValueError):  # no folder, or no room in it
        check_free(folder)
        status = str(read_info(folder).get("status", ""))
        update_info(folder, status=status if status.startswith("failed") else "failed", error=text)
