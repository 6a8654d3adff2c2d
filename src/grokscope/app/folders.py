"""Where runs lie, and which run a checkpoint belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from grokscope.app.errors import UserError
from grokscope.store.checkpoint_files import FOLDER, LAST, scheduled
from grokscope.store.info import NAME as INFO_NAME
from grokscope.store.lock import FolderInUseError, check_free
from grokscope.store.run_writer import FILES

RANKS = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
FIGURES = "figures"  # in a run's folder: what report.py draws for papers


def run_folder(log_dir: str, name: str, ckpt_path: str | None) -> str:
    """The folder of this process's run: that of the checkpoint it resumes, or a new one.

    Called by the resolver ``run_folder`` in ``configs/hydra/default.yaml``; makes nothing.
    """
    if ckpt_path is not None:
        folder = folder_of(checkpoint(log_dir, name, ckpt_path))
        if folder is not None:
            return str(folder)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return str(Path(str(log_dir)) / "runs" / str(name) / stamp)


def claim(folder: Path) -> Path:
    """Make a folder that nobody else has: this one, or with ``-2``, ``-3``, ... after its name.

    Runs that start within the same second get folders of their own.
    """
    number, candidate = 1, folder
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")


def checkpoint(log_dir: str, name: str, ckpt_path: str) -> Path:
    """The file that ``ckpt_path`` means, which may be torn.

    Args:
        log_dir: Where runs lie.
        name: Of the experiment.
        ckpt_path: A file; a run's folder, for the newest one there; ``last`` for the newest run
            of this name.

    Raises:
        UserError: If there is none.
    """
    path = Path(str(ckpt_path))
    if ckpt_path == "last":
        runs = Path(str(log_dir)) / "runs" / str(name)
        found = sorted(runs.glob("*/checkpoints/*.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise UserError(f"ckpt_path=last needs a run with a checkpoint in {runs}, found none.")
        path = found[-1].parents[1]
    if newest := by_age(path):
        return newest[0]
    if not path.is_file():
        raise UserError(
            "ckpt_path must be 'last' or a checkpoint file or the folder of a run with "
            f"checkpoints, got {ckpt_path!r}."
        )
    return path


def by_age(folder: Path) -> list[Path]:
    """The checkpoints of a run: ``last``, then the others from the newest to the oldest."""
    last = folder / FOLDER / LAST
    return [*([last] if last.is_file() else ()), *reversed(scheduled(folder).values())]


def check_log_dir(log_dir: object, name: object) -> None:
    """Refuse a place where no run folder can be made.

    Raises:
        UserError: Naming the key.
    """
    if not isinstance(log_dir, (str, int)) or str(log_dir) == "":
        raise UserError(f"paths.log_dir must be a folder, got {log_dir!r}.")
    text = str(name)
    if not isinstance(name, (str, int)) or text != Path(text).name or text[:1] in ("", "."):
        raise UserError(f"name must be a plain folder name, got {name!r}.")
    folder = Path(str(log_dir)).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"paths.log_dir must be a folder, got {log_dir!r}: {there} is a file.")


def check_run_dir(folder: Path, resumed: Path | None) -> None:
    """Refuse to write a run over another one's rows.

    Args:
        folder: The run's folder.
        resumed: The checkpoint that the run goes on from.

    Raises:
        UserError: If ``folder`` holds the rows of a run other than ``resumed``'s.
    """
    rows = [name for name in FILES if (folder / name).exists()]
    own = resumed is not None and folder_of(resumed)
    if rows and not (own and own.samefile(folder)):
        raise UserError(
            f"hydra.run.dir must not hold another run's rows, got {folder} with {rows[0]}; "
            f"choose another folder, or go on with run={folder}."
        )


def check_not_written(folder: Path) -> None:
    """Refuse a run that another process writes.

    Raises:
        UserError: Naming the process.
    """
    with no_second_writer():
        check_free(folder)


@contextmanager
def no_second_writer() -> Iterator[None]:
    """One line for a folder whose lock another process holds."""
    try:
        yield
    except FolderInUseError as error:
        raise UserError(f"a run must have one writer: {error}") from error


def folder_of(path: Path) -> Path | None:
    """The run folder that a checkpoint lies in; None outside of one."""
    folder = path.parent.parent
    return folder if (folder / INFO_NAME).exists() else None


def is_main_process() -> bool:
    """Whether this is the first process of the run (DDP and ``srun`` start others)."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
