"""Where runs lie, and which run a checkpoint belongs to."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path

from grokscope.app.errors import UserError
from grokscope.store.info import NAME as INFO_NAME

LAST = "last.ckpt"


@cache
def run_folder(log_dir: str, name: str, ckpt_path: str | None) -> str:
    """The folder of this process's run: that of the checkpoint it resumes, or a new one.

    Called by the resolver ``run_folder`` in ``configs/hydra/default.yaml``.
    """
    if ckpt_path is not None:
        folder = _folder_of(checkpoint(log_dir, name, ckpt_path))
        if folder is not None:
            return str(folder)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    base = Path(log_dir) / "runs" / name / stamp
    candidates = [base, *(base.with_name(f"{stamp}-{n}") for n in range(2, 1000))]
    return str(next(folder for folder in candidates if not folder.exists()))


def checkpoint(log_dir: str, name: str, ckpt_path: str) -> Path:
    """The file that ``ckpt_path`` means: a path, or ``last`` for the newest run of this name.

    Raises:
        UserError: If there is none.
    """
    if ckpt_path != "last":
        path = Path(ckpt_path)
        if not path.is_file():
            raise UserError(f"ckpt_path must be 'last' or a checkpoint file, got {ckpt_path!r}.")
        return path
    runs = Path(log_dir) / "runs" / name
    found = sorted(runs.glob(f"*/checkpoints/{LAST}"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError(f"ckpt_path=last needs a run with a checkpoint in {runs}, found none.")
    return found[-1]


def _folder_of(path: Path) -> Path | None:
    folder = path.parent.parent
    return folder if (folder / INFO_NAME).exists() else None
