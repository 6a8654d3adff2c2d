"""``resume=true``: what there is to go on with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from grokscope.analysis.run import Run
from grokscope.app.checkpoints import NoCheckpointError, newest_whole
from grokscope.app.errors import UserError
from grokscope.app.folders import refuse_links
from grokscope.store.checkpoint_files import FOLDER
from grokscope.store.info import NAME, read_info
from grokscope.store.run_writer import FILES
from grokscope.store.sweep import identity

TEXT = "metrics.csv"


def is_finished(folder: Path) -> bool:
    """Whether a run has done all that it was to do."""
    return read_info(folder).get("status") == "finished"


def can_go_on(folder: Path) -> bool:
    """Whether a run has a checkpoint to go on from.

    Raises:
        UserError: If a file of its rows is gone or cannot be read; to begin anew would delete the
            others.
    """
    try:
        newest_whole(folder)
    except NoCheckpointError:
        return False
    return True


def clear(folder: Path) -> None:
    """Remove what a run without a whole checkpoint has left, so that it can begin anew.

    Raises:
        UserError: If there is a link, behind which other files would be removed.
    """
    refuse_links(folder)
    torn = (folder / FOLDER).glob("*.ckpt")
    for path in (*(folder / name for name in (*FILES, TEXT)), *torn):
        path.unlink(missing_ok=True)


def earlier_run(runs_dir: Path, overrides: Iterable[str]) -> Path | None:
    """The newest run in a folder of runs that was begun with the same settings.

    Raises:
        UserError: If there is none, but a disk that fails hides what one of the runs was: to
            begin anew would leave that one behind.
    """
    wanted, hidden = identity(overrides), ""
    infos = sorted(runs_dir.glob(f"*/{NAME}"), key=lambda path: path.parent.name, reverse=True)
    for path in infos:
        try:
            found = read_info(path.parent).get("overrides")
        except ValueError as error:
            cause = error.__context__  # PermissionError: a run of somebody else
            if isinstance(cause, OSError) and not isinstance(cause, PermissionError):
                hidden = hidden or f"{path} cannot be read ({cause.strerror})"
            continue
        if isinstance(found, list) and identity(map(str, found)) == wanted:
            return path.parent
    if hidden:
        raise UserError(f"resume=true must know the runs in {runs_dir}: {hidden}.")
    return None


def last_value(folder: Path, objective: str) -> float:
    """What a sweeper minimises, of a finished run.

    Args:
        folder: Of the run.
        objective: A metric, for its last value that is a number, or ``memorised``,
            ``generalised`` or ``delay``: epochs, by the run's own thresholds; ``max_epochs`` for a
            run that never got there (our choice: the least that it can be).

    Raises:
        UserError: If the run has no rows, or no such metric with one value a row.
    """
    run = Run.open(folder)
    if not run.metrics:
        raise UserError(f"objective={objective} must have rows to come from: {folder} has none.")
    if objective in EPOCHS:
        epochs = getattr(run.grokking_as_configured(), objective)
        return float(run.config["trainer"]["max_epochs"] if epochs is None else epochs)
    values = np.asarray(run.metrics.get(objective, ()), dtype=np.float64)
    numbers = values[~np.isnan(values)]
    if values.ndim != 1 or not len(numbers):
        raise UserError(
            f"objective must be one of {', '.join(EPOCHS)} or a metric of the run such as "
            f"test_loss, got {objective!r}."
        )
    return float(numbers[-1])


EPOCHS = ("memorised", "generalised", "delay")
