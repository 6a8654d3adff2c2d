"""Where a sweep lies."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from grokscope.app.errors import UserError
from grokscope.app.folders import claim, refuse_links
from grokscope.app.paths import check_folder, make_folder, set_path
from grokscope.store.sweep import NAME, SweepRun, identity, read_sweep

CHOSEN = "/multiruns/"  # in the default of hydra.sweep.dir
OURS = (NAME, "sweep.csv", "multirun.yaml", "optimization_results.yaml", "comparison.html")


def prepare_sweep_dir(config: DictConfig) -> None:
    """Give a sweep a folder that nobody else has, or with ``resume=true`` the one that it had.

    Raises:
        UserError: If the folder that was typed holds another sweep.
    """
    folder = Path(str(config.hydra.sweep.dir))
    raw: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    typed = CHOSEN not in str(raw["dir"])
    if config.resume and not typed:
        command = list(config.hydra.overrides.task)
        folder = _earlier(folder.parent, command) or claim(folder)
    elif not typed:
        folder = claim(folder)
    else:
        check_folder("hydra.sweep.dir", config.hydra.sweep.dir)
        make_folder("hydra.sweep.dir", folder)
        if not (_is_first(folder) or config.resume):
            raise UserError(
                f"hydra.sweep.dir must not hold another sweep, got {folder}; go on with it by "
                "resume=true."
            )
    refuse_links(folder)  # Hydra's sweepers write files there, too
    set_path(config, "hydra.sweep.dir", folder)


def check_folders(runs: Iterable[SweepRun]) -> None:
    """Refuse a ``hydra.sweep.subdir`` that leads two runs to one place, or out of the sweep.

    Raises:
        UserError: Naming the folder.
    """
    found: dict[Path, int] = {}
    for run in runs:
        folder = Path(run.folder)
        wrong = f"hydra.sweep.subdir must give each run a folder of its own, got {run.folder!r}"
        if folder.is_absolute() or ".." in folder.parts or not folder.parts:
            raise UserError(f"{wrong}: it is not below the sweep's folder.")
        if folder.parts[0].startswith(".") or folder.parts[0] in OURS:
            raise UserError(f"{wrong}: the sweep itself has a file of that name.")
        check_folder("hydra.sweep.subdir", run.folder)
        for place in (folder, *folder.parents):
            if found.get(place, run.number) != run.number:
                raise UserError(f"{wrong} for runs {found[place]} and {run.number}.")
        found[folder] = run.number


def _is_first(folder: Path) -> bool:
    """Make the list of runs, still empty; of commands that try at the same time one can."""
    try:
        with (folder / NAME).open("x", encoding="utf-8") as file:
            json.dump({"command": [], "runs": [], "jobs": []}, file)
    except FileExistsError:
        return False
    return True


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
