"""Where Hydra lets us look at a configuration before it makes a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from grokscope.analysis.run import printable
from grokscope.app.checkpoints import check_same_settings
from grokscope.app.checks import validate, validate_sweep, without_hydra
from grokscope.app.errors import UserError, as_user_error, refuse
from grokscope.app.folders import (
    check_not_written,
    check_run_dir,
    checkpoint,
    claim,
    folder_of,
    is_main_process,
    no_second_writer,
    started_together,
)
from grokscope.app.hydra_settings import check_hydra_settings
from grokscope.app.overrides import check_added_keys, describe_hydra_error
from grokscope.app.paths import check_folder, check_plain, expand_home, make_folder, set_path
from grokscope.app.resuming import can_go_on, clear, earlier_run, is_finished
from grokscope.app.storage import predicts_only
from grokscope.app.stored import read_settings, value_at
from grokscope.app.sweeps.folder import prepare_sweep_dir
from grokscope.app.training import complete
from grokscope.store.lock import FolderLock

CHOSEN = "${run_folder:"  # where hydra.run.dir was not typed


class CheckHydra(Callback):
    """Refuses settings of Hydra that a command would take without effect, or cannot follow."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look before Hydra makes a folder."""
        with _ending_the_program(config):
            check_folder("hydra.run.dir", config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The same for several."""
        with _ending_the_program(config):
            check_folder("hydra.sweep.dir", config.hydra.sweep.dir)


class Validate(Callback):
    """Refuses a configuration before any folder is made; then claims the run's folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Build everything once; a mistake ends the program with one line."""
        with _ending_the_program(config):
            check_added_keys(config.hydra.job.config_name, config.hydra.overrides.task)
            _find_earlier_run(config)
            _answer_for_finished_run(config)
            folder = Path(str(config.hydra.run.dir))
            if _is_chosen(config.hydra.run):
                check_plain("hydra.run.dir", str(folder))
            else:
                check_folder("hydra.run.dir", config.hydra.run.dir)
            forecast = validate(without_hydra(config), folder)
            if predicts_only(config):
                print("\n".join(forecast.lines()))
                raise SystemExit(0)
            _prepare_run_dir(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The same for the jobs of a sweep."""
        with _ending_the_program(config):
            check_added_keys(config.hydra.job.config_name, config.hydra.overrides.task)
            if predicts_only(config):
                raise UserError("storage.predict_only=true is for one run: leave out --multirun.")
            validate_sweep(config)
            prepare_sweep_dir(config)


@contextmanager
def _ending_the_program(config: DictConfig) -> Iterator[None]:
    """Exit at any exception: Hydra would make a warning of it and go on."""
    HydraConfig.instance().set_config(config)  # for ${hydra:...} in the name of the run
    try:
        expand_home(config)
        check_hydra_settings(config)
        yield
    except HydraException as error:
        hydra = config.hydra
        folder = next(s.path for s in hydra.runtime.config_sources if s.provider == "main")
        argv = list(hydra.overrides.task)
        refuse(describe_hydra_error(error, Path(folder), hydra.job.config_name, argv))
    except Exception as error:
        told = as_user_error(error, config)
        refuse(f"{told}{told.hint}")


def _find_earlier_run(config: DictConfig) -> None:
    """With ``resume=true``: go on with the run that these settings had, if there is one.

    Raises:
        SystemExit: With code 0 if that run is finished.
    """
    if not config.get("resume"):
        return
    if config.ckpt_path is not None:
        raise UserError("resume=true finds the run itself: leave out run and ckpt_path.")
    folder: Path | None = Path(str(config.hydra.run.dir))
    if _is_chosen(config.hydra.run):
        folder = earlier_run(Path(str(config.hydra.run.dir)).parent, config.hydra.overrides.task)
    if folder is None:
        return
    if is_finished(folder):
        _end_with(config, folder)
    set_path(config, "hydra.run.dir", folder)
    if can_go_on(folder):
        set_path(config, "ckpt_path", folder)
    elif is_main_process() and folder.exists():
        with no_second_writer(), FolderLock(folder):
            clear(folder)


def _answer_for_finished_run(config: DictConfig) -> None:
    """With ``run=`` of a run that has done all its passes: write the page if it is missing.

    Raises:
        SystemExit: With code 0 after that.
    """
    if config.ckpt_path is None:
        return
    file = checkpoint(config.paths.log_dir, config.name, config.ckpt_path)
    folder = folder_of(file)
    if folder is None or file == Path(str(config.ckpt_path)) or not is_finished(folder):
        return
    done = value_at(read_settings(folder), "trainer.max_epochs")
    if done == config.trainer.max_epochs:
        check_same_settings(folder, config)
        _end_with(config, folder, ": nothing to do; a larger trainer.max_epochs goes on with it")


def _end_with(config: DictConfig, folder: Path, otherwise: str = "") -> NoReturn:
    """Say what has been written of a finished run that was missing, or else something else."""
    if is_main_process():
        new = complete(config, folder)
        print(f"{printable(str(folder))} is finished{f': {new} written' if new else otherwise}.")
    raise SystemExit(0)


def _prepare_run_dir(config: DictConfig) -> None:
    """Give a new run a folder that nobody else has; refuse one with another run's rows."""
    folder, chosen = Path(str(config.hydra.run.dir)), _is_chosen(config.hydra.run)
    if chosen and started_together():
        raise UserError(
            "hydra.run.dir must be typed where srun or torchrun starts several processes of one "
            "run: they have to agree on it (scripts/slurm/run.sbatch does so)."
        )
    if not is_main_process():
        return  # the first one looks; by now it may have begun
    if chosen and config.ckpt_path is None:
        set_path(config, "hydra.run.dir", claim(folder))
        return
    check_not_written(folder)
    resumed = config.ckpt_path and checkpoint(config.paths.log_dir, config.name, config.ckpt_path)
    make_folder("hydra.run.dir", folder)
    check_run_dir(folder, resumed)
    with no_second_writer():
        FolderLock(folder)  # until this process ends: Hydra writes there next
    check_run_dir(folder, resumed)  # another one may have come and gone meanwhile


def _is_chosen(node: DictConfig) -> bool:
    """Whether the folder of a run is ours to choose: nobody typed it."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    return str(raw["dir"]).startswith(CHOSEN)
