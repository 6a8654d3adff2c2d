"""Where runs lie, and which run a checkpoint belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from grokscope.app.errors import UserError
from grokscope.app.paths import check_folder, check_name, says_where
from grokscope.store.checkpoint_files import FOLDER, LAST, scheduled
from grokscope.store.info import NAME as INFO_NAME
from grokscope.store.lock import FolderInUseError, check_free
from grokscope.store.nofollow import NotPlainFileError, check_no_links
from grokscope.store.replacing import make_folder, sync_folder
from grokscope.store.run_writer import FILES
from grokscope.validation import shown

RANKS = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
MOST_AT_ONCE = 10_000  # runs of one name that start within a second
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

    Runs that start within the same second get folders of their own: of all that try to make one,
    the system lets one succeed.

    Raises:
        UserError: If none can be made there.
    """
    with says_where("paths.log_dir", folder.parent):
        make_folder(folder.parent)
        for number in range(1, MOST_AT_ONCE + 1):
            own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            with suppress(FileExistsError):
                own.mkdir()
                sync_folder(own.parent)
                return own
    raise UserError(f"paths.log_dir must have room, got {folder} and {MOST_AT_ONCE} others there.")


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
    path = Path(os.path.expanduser(str(ckpt_path)))
    if ckpt_path == "last":
        runs = Path(str(log_dir)) / "runs" / str(name)
        found = sorted(runs.glob("*/checkpoints/*.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise UserError(f"ckpt_path=last needs a run with a checkpoint in {runs}, found none.")
        path = found[-1].parents[1]
    with suppress(OSError):  # a name that is too long, a folder that may not be read
        if newest := by_age(path):
            return newest[0]
        if path.is_file():
            return path
    raise UserError(
        "ckpt_path must be 'last' or a checkpoint file or the folder of a run with "
        f"checkpoints, got {shown(ckpt_path)}."
    )


def by_age(folder: Path) -> list[Path]:
    """The checkpoints of a run: ``last``, then the others from the newest to the oldest."""
    last = folder / FOLDER / LAST
    return [*([last] if last.is_file() else ()), *reversed(scheduled(folder).values())]


def check_log_dir(log_dir: object, name: object) -> None:
    """Refuse a place where no run folder can be made.

    Raises:
        UserError: Naming the key.
    """
    check_folder("paths.log_dir", log_dir)
    check_name("name", name)


def check_run_dir(folder: Path, resumed: Path | None) -> None:
    """Refuse to write a run over another one's rows.

    Args:
        folder: The run's folder.
        resumed: The checkpoint that the run goes on from.

    Raises:
        UserError: If ``folder`` holds the rows of a run other than ``resumed``'s, or a link.
    """
    refuse_links(folder)
    rows = [name for name in FILES if (folder / name).exists()]
    own = resumed is not None and folder_of(resumed)
    if rows and not (own and own.samefile(folder)):
        raise UserError(
            f"hydra.run.dir must not hold another run's rows, got {folder} with {rows[0]}; "
            f"choose another folder, or go on with run={folder}."
        )


def refuse_links(folder: Path) -> None:
    """Refuse to write into a run's folder with a link in it: a stranger may have put it there.

    Hydra and other loggers open their files by name, so one look comes before all of them.

    Raises:
        UserError: Naming the link.
    """
    if not folder.is_dir():
        return
    try:
        check_no_links(folder, left_out=("wandb",))  # which makes links itself
    except NotPlainFileError as error:
        raise UserError(f"a run must be written through no link: {error}") from error


def refuse_links_between(root: Path, folder: Path) -> None:
    """Refuse a folder below another that a link leads to; those above ``root`` are the user's.

    Raises:
        UserError: Naming the link.
    """
    below = folder.relative_to(root)
    for place in (root / part for part in (*reversed(below.parents), below)):
        if place != root and place.is_symlink():
            error = NotPlainFileError(place, "a folder")
            raise UserError(f"a run must be written through no link: {error}")


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


def started_together() -> bool:
    """Whether ``srun`` or ``torchrun`` started several processes of one run.

    Lightning does so too, but tells the others where the run is.
    """
    srun = os.environ.get("SLURM_NTASKS", "1") if "SLURM_PROCID" in os.environ else "1"
    torchrun = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    return srun != "1" or torchrun != "1"
