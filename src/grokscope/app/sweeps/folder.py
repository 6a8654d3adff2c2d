"""Where a sweep lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, read_write

from grokscope.app.errors import UserError
from grokscope.app.folders import claim
from grokscope.store.sweep import NAME, identity, read_sweep

CHOSEN = "/multiruns/"  # in the default of hydra.sweep.dir


def prepare_sweep_dir(config: DictConfig) -> None:
    """Give a sweep a folder that nobody else has, or with ``resume=true`` the one that it had.

    Raises:
        UserError: If the folder that was typed holds another sweep.
    """
    folder = Path(str(config.hydra.sweep.dir))
    raw: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    typed = CHOSEN not in str(raw["dir"])
    if config.resume and not typed:
        folder = _earlier(folder.parent, list(config.hydra.overrides.task)) or claim(folder)
    elif not typed:
        folder = claim(folder)
    elif (folder / NAME).exists() and not config.resume:
        raise UserError(
            f"hydra.sweep.dir must not hold another sweep, got {folder}; go on with it by "
            "resume=true."
        )
    with read_write(config.hydra.sweep):
        config.hydra.sweep.dir = str(folder)


def _earlier(sweeps: Path, command: list[str]) -> Path | None:
    """The newest sweep of this command, whatever the values are that it goes through."""
    wanted = _shape(command)
    for path in sorted(sweeps.glob(f"*/{NAME}"), reverse=True):
        try:
            if _shape(list(read_sweep(path.parent).command)) == wanted:
                return path.parent
        except (ValueError, HydraException):  # damaged, or no command line
            continue
    return None


def _shape(command: list[str]) -> frozenset[str]:
    """What was typed, without the values of what is swept."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides(sorted(identity(command)))
    return frozenset(
        o.get_key_element() if o.is_sweep_override() else str(o.input_line) for o in parsed
    )
