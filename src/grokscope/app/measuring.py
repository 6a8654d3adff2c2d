"""``python src/measure.py run=logs/...``: measures at a run's checkpoints, without training."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from grokscope.analysis.run import MEASURED, Run, printable
from grokscope.app.build import build_model, prepare_processor, quiet
from grokscope.app.building import building
from grokscope.app.checkpoint_rows import CheckpointRows
from grokscope.app.checkpoints import MACHINE, TornCheckpointError
from grokscope.app.errors import UserError, one_line_errors
from grokscope.app.evaluation import find_run
from grokscope.app.paths import check_name
from grokscope.app.run_settings import run_settings
from grokscope.app.stored import typed_values
from grokscope.callbacks import GOPCallback, ProgressMeasure
from grokscope.callbacks.meter import Meter
from grokscope.callbacks.schedule import parse_schedule
from grokscope.store.checkpoint_files import scheduled
from grokscope.store.info import environment, update_info
from grokscope.store.lock import abandoned
from grokscope.store.nofollow import NotPlainFileError, subfolder
from grokscope.store.replacing import replace_text, sync_folder
from grokscope.validation import require_choice, require_int

KINDS = ("batch", "weight", "sample", "input")
AS_THE_RUN = (
    *("top_k", "rank_threshold", "max_bytes"),
    *("probe", "centered", "noise_floor"),
)
DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}


def measure(config: DictConfig) -> None:
    """Measure at the checkpoints of a run and write the rows beside its own."""
    folder = find_run(config, "measure")
    settings = run_settings(folder, config)
    place = _place(config, folder)
    checkpoints = _chosen(config, folder)
    measures = _measures(config, settings)
    with one_line_errors(config, "measures"):
        wanted = GOPCallback(**measures | {"progress": _progress(measures)})
    losses = _losses(folder, list(checkpoints))
    with building(folder):
        meter = _meter(config, settings, wanted)
    with building(folder), _plain_errors(config), _put_in_place(place) as draft:
        rows = CheckpointRows(draft, meter, wanted.progress, list(checkpoints), losses)
        skipped = _measure_all(rows, checkpoints)
        if len(skipped) == len(checkpoints):
            raise UserError(f"run must have a whole checkpoint, got {folder}: all are torn.")
        rows.finish()
        _describe(draft, folder, settings, measures, skipped)
    with one_line_errors(config):
        _report(folder, place, wanted, len(checkpoints) - len(skipped))


def _place(config: DictConfig, folder: Path) -> Path:
    """Where the rows will be."""
    name = check_name("name", config.name)
    if not isinstance(config.replace, bool):
        raise UserError(f"replace must be true or false, got {config.replace!r}.")
    try:
        place = subfolder(folder, MEASURED, name)
    except FileNotFoundError:
        return folder / MEASURED / name
    except NotPlainFileError as error:
        raise UserError(str(error)) from error
    if not config.replace:
        raise UserError(
            f"name must be new, got {name}: {place} holds rows already and stays as it is; "
            "replace=true puts new ones in their place."
        )
    return place


def _chosen(config: DictConfig, folder: Path) -> Mapping[int, Path]:
    """The checkpoints to measure at, by passes done."""
    there = scheduled(folder)
    if not there:
        raise UserError(f"run must have checkpoints epoch_<n>.ckpt, got {folder} with none.")
    if config.epochs is None:
        return there
    epochs = _epochs(config, list(there))
    if missing := sorted(set(epochs) - set(there)):
        known = ", ".join(map(str, there))
        raise UserError(f"epochs must be those of checkpoints ({known}), got {missing}.")
    return {epoch: there[epoch] for epoch in sorted(epochs)}


def _epochs(config: DictConfig, there: list[int]) -> list[int]:
    """The epochs that a number, a list or a schedule names."""
    given = config.epochs
    with one_line_errors(config):
        if not isinstance(given, str):
            listed = [given] if isinstance(given, (int, float)) else list(given)
            epochs = [require_int("epochs", epoch, minimum=0) for epoch in listed]
        else:
            schedule = parse_schedule("epochs", given)
            epochs = [epoch for epoch in there if schedule.fixed and schedule.due(epoch)]
    if not epochs:
        raise UserError(f"epochs must name at least one checkpoint, got {given!r}.")
    return epochs


def _measures(config: DictConfig, settings: DictConfig) -> dict[str, Any]:
    """What is measured and how: as typed, else as in the run."""
    typed = typed_values(config, "measures", settings)
    own = settings.get("measures")
    theirs: dict[str, Any] = dict(_plain(own)) if isinstance(own, DictConfig) else {}
    kinds = _kinds(typed["kinds"], config, settings)
    values = {key: theirs.get(key) if typed[key] is None else typed[key] for key in AS_THE_RUN}
    values["progress"] = typed["progress"] or theirs.get("progress")
    known = {key: value for key, value in values.items() if value is not None}
    return {"kinds": kinds, "on_nonfinite": typed["on_nonfinite"], **known}


def _progress(measures: Mapping[str, Any]) -> dict[str, ProgressMeasure]:
    """The progress measures that need no optimizer."""
    given = instantiate(measures.get("progress") or {}, _convert_="all")
    return {name: each for name, each in given.items() if not each.needs_optimizer}


def _kinds(kinds: Any, config: DictConfig, settings: DictConfig) -> Any:
    """Refuse what cannot be known at a checkpoint; a group's ``trajectory`` is left out."""
    if not isinstance(kinds, list):
        return kinds
    overrides = HydraConfig.get().overrides.task
    if "trajectory" in kinds and any("measures.kinds=" in typed for typed in overrides):
        raise UserError(
            f"measures.kinds must be of {', '.join(KINDS)}, got 'trajectory': it needs the "
            "gradients of successive steps, which checkpoints do not hold."
        )
    kinds = [kind for kind in kinds if kind != "trajectory"]
    precision = OmegaConf.select(settings, "trainer.precision")
    if precision == "16-mixed" and not {"batch", "weight"}.isdisjoint(kinds):
        raise UserError(
            "measures.kinds must be of sample, input for a run with trainer.precision=16-mixed: "
            f"the scale of its gradients is not known, got {', '.join(kinds)}."
        )
    return kinds


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)


def _meter(config: DictConfig, settings: DictConfig, wanted: GOPCallback) -> Meter:
    """The run's data and module, ready to be measured at any weights."""
    device = _device(config)
    precision = str(OmegaConf.select(settings, "trainer.precision"))
    deterministic = bool(OmegaConf.select(settings, "trainer.deterministic"))
    torch.use_deterministic_algorithms(deterministic and device.type == "cpu")
    with one_line_errors(settings):
        prepare_processor(settings.get("threads"))
    data, model = build_model(settings, weights_follow=True)
    with one_line_errors(settings, "data"), quiet():
        data.prepare_data()
        data.setup("fit")
    model.to(device, DTYPES.get(precision, torch.float32))
    model.prepare_data_on_device(data)
    with one_line_errors(config, "measures"):
        wanted.check_module(model)
        wanted.progress.check_data(data)
        if not wanted.kinds and not wanted.progress.given:
            known = ", ".join(KINDS)
            raise ValueError(f"kinds must hold at least one of {known}, got none.")
        return Meter(model, data, wanted, mixed=precision == "bf16-mixed")


def _device(config: DictConfig) -> torch.device:
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    present += ["mps"] if torch.backends.mps.is_available() else []
    with one_line_errors(config):
        return torch.device(require_choice("device", config.device, present))


def _losses(folder: Path, epochs: list[int]) -> dict[int, dict[str, float]]:
    """The run's own scalars at these epochs; they are copied beside the new rows."""
    try:
        metrics = Run.open(folder).metrics
    except FileNotFoundError:
        return {}
    if "epoch" not in metrics:
        return {}
    found, places, _ = np.intersect1d(metrics["epoch"], epochs, return_indices=True)
    names = [n for n in metrics if "/" not in n and n.endswith(("_loss", "_acc"))]
    columns = {name: metrics[name][places].tolist() for name in names}
    return {
        epoch: {name: column[i] for name, column in columns.items()}
        for i, epoch in enumerate(found.tolist())
    }


@contextmanager
def _plain_errors(config: DictConfig) -> Iterator[None]:
    """One line for a full disk, and for a gradient that must not be infinite."""
    try:
        with one_line_errors(config, "measures"):
            yield
    except FloatingPointError as error:
        raise UserError(f"measures.on_nonfinite=raise: {error}") from error


@contextmanager
def _put_in_place(place: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``place`` when all is written, or vanishes."""
    parent = subfolder(place.parents[1], MEASURED, create=True)
    sync_folder(place.parents[1])
    draft, old = (parent / f".{place.name}.{os.getpid()}{end}" for end in ("", ".old"))
    _clear_up(place)
    draft.mkdir()
    try:
        yield draft
        if place.exists():
            os.rename(place, old)
        os.rename(draft, place)
        sync_folder(parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not place.exists():
            os.rename(old, place)
        shutil.rmtree(draft, ignore_errors=True)


def _clear_up(place: Path) -> None:
    """Remove what earlier processes have left; older rows that one had moved away come back."""
    for left in place.parent.glob(f".{place.name}.*"):
        if left.is_symlink():
            continue
        replaced = left.suffix == ".old" and place.exists()
        if left.suffix == ".old" and not replaced and abandoned(left):
            os.rename(left, place)
        elif replaced or abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _measure_all(rows: CheckpointRows, checkpoints: Mapping[int, Path]) -> list[str]:
    """Add a row for each whole checkpoint; names of the others."""
    skipped = []
    terminal = sys.stderr.isatty()
    for epoch, path in track(
        checkpoints.items(),
        "measuring",
        console=Console(stderr=True),
        transient=True,
        disable=not terminal,
    ):
        try:
            rows.add(epoch, path)
        except TornCheckpointError as error:
            if error.cause == MACHINE:  # it may be there next time
                raise UserError(f"{path}: {error.why}; epochs=... leaves it out.") from error
            skipped.append(path.name)
            print(f"warning: {path} is skipped: {error.why}.", file=sys.stderr)
    return skipped


def _describe(
    draft: Path, folder: Path, settings: DictConfig, measures: dict[str, Any], skipped: list[str]
) -> None:
    """``config.yaml`` and ``run.json`` of the new rows, as a run has them."""
    known: dict[str, Any] = dict(_plain(settings))
    measured = known | {"measures": measures}
    text = OmegaConf.to_yaml(OmegaConf.create(measured))
    replace_text(draft / "config.yaml", text)
    entries = {"name": known.get("name"), "seed": known.get("seed"), "skipped": skipped}
    update_info(draft, status="finished", measured=str(folder), **entries, **environment())


def _report(folder: Path, place: Path, wanted: GOPCallback, count: int) -> None:
    names, where = ", ".join((*wanted.kinds, *wanted.progress.given)), printable(str(place))
    print(f"Measured {names} at {count} checkpoints; the rows are in {where}.")
    if Run(folder).status == "running":
        print("The run has not ended: replace=true takes in its later checkpoints.")
