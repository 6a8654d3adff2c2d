"""Where Hydra lets us look at a configuration before it makes a folder."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from grokscope.app.checks import validate, validate_sweep, without_hydra
from grokscope.app.errors import UserError, describe_config_error, refuse
from grokscope.app.folders import (
    check_not_written,
    check_run_dir,
    checkpoint,
    claim,
    is_main_process,
)
from grokscope.app.overrides import check_added_keys, describe_hydra_error
from grokscope.app.resuming import can_go_on, clear, earlier_run, is_finished
from grokscope.app.storage import predicts_only
from grokscope.app.sweeps.folder import prepare_sweep_dir

CHOSEN = "${run_folder:"  # where hydra.run.dir was not typed


class Validate(Callback):
    """Refuses a configuration before any folder is made; then claims the run's folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Build everything once; a mistake ends the program with one line."""
        with _ending_the_program(config):
            check_added_keys(config.hydra.job.config_name, config.hydra.overrides.task)
            _find_earlier_run(config)
            folder = Path(str(config.hydra.run.dir))
            forecast = validate(without_hydra(config), folder)
            if predicts_only(config):
                print("\n".join(forecast.lines()))
                raise SystemExit(0)
            if is_main_process():
                check_not_written(folder)
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
        yield
    except UserError as error:
        refuse(str(error))
    except HydraException as error:
        hydra = config.hydra
        folder = next(s.path for s in hydra.runtime.config_sources if s.provider == "main")
        argv = list(hydra.overrides.task)
        refuse(describe_hydra_error(error, Path(folder), hydra.job.config_name, argv))
    except OmegaConfBaseException as error:
        refuse(describe_config_error(error))
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def _find_earlier_run(config: DictConfig) -> None:
    """With ``resume=true``: go on with the run that these settings had, if there is one.

    Raises:
        SystemExit: With code 0 if that run is finished.
    """
    if not config.get("resume"):
        return
    if config.ckpt_path is not None:
        raise UserError("resume=true finds the run itself: leave out run and ckpt_path.")
    raw: Any = OmegaConf.to_container(config.hydra.run, resolve=False)
    folder: Path | None = Path(str(config.hydra.run.dir))
    if raw["dir"].startswith(CHOSEN):
        folder = earlier_run(Path(str(config.hydra.run.dir)).parent, config.hydra.overrides.task)
    if folder is None:
        return
    if is_finished(folder):
        print(f"{folder} is finished.")
        raise SystemExit(0)
    with read_write(config), read_write(config.hydra.run):
        config.hydra.run.dir = str(folder)
        if can_go_on(folder):
            config.ckpt_path = str(folder)
        elif is_main_process():
            check_not_written(folder)
            clear(folder)


def _prepare_run_dir(config: DictConfig) -> None:
    """Give a new run a folder that nobody else has; refuse one with another run's rows."""
    folder = Path(str(config.hydra.run.dir))
    raw: Any = OmegaConf.to_container(config.hydra.run, resolve=False)
    tasks = int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in os.environ else 1
    if raw["dir"].startswith(CHOSEN) and tasks > 1:
        raise UserError(
            "hydra.run.dir must be typed where srun starts several processes of one run: they "
            "have to agree on it (scripts/slurm/run.sbatch does so)."
        )
    if not is_main_process():
        return  # the first one looks; by now it may have begun
    if config.ckpt_path is not None:
        check_run_dir(folder, checkpoint(config.paths.log_dir, config.name, config.ckpt_path))
    elif not raw["dir"].startswith(CHOSEN):
        check_run_dir(folder, None)
    else:
        with read_write(config.hydra.run):
            config.hydra.run.dir = str(claim(folder))
