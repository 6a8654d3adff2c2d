"""What ``run.json`` says of a run that did not come to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from grokscope.app.errors import UnexpectedError, as_user_error
from grokscope.app.folders import is_main_process
from grokscope.callbacks import Preempted
from grokscope.store.disk import full_disk_cause
from grokscope.store.info import read_info, update_info

log = logging.getLogger(__name__)
INTERRUPTED, TERMINATED = 130, 143  # what a shell reports for SIGINT and SIGTERM


class BeforeFirstPass(Callback):
    """Does something when nothing can hinder training any more, as the last of the callbacks.

    Args:
        action: What it does, in the first process.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do it."""
        if trainer.is_global_zero:
            self._action()


@contextmanager
def noting_how_it_ends(config: DictConfig, folder: Path) -> Iterator[None]:
    """Write down why a run ended, if it does so before its time; it is ours, by its lock.

    A run that has done its passes stays finished, whatever fails after that.

    Raises:
        UserError: In place of any exception, with a line that says what failed. A full disk is
            left to :func:`grokscope.app.storage.one_line_when_full`.
        SystemExit: With the exit code of a process that a signal ended.
    """
    try:
        yield
    except Preempted as end:
        _note(folder, end.status)
        raise
    except SystemExit as end:  # Lightning's answer to a second Ctrl-C, and without ours to SIGTERM
        _note(folder, "stopped")
        code = TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED
        raise SystemExit(code) from None
    except KeyboardInterrupt:
        _note(folder, "stopped")
        raise
    except Exception as error:
        if full_disk_cause(error) is not None:
            raise
        told = as_user_error(error, config)
        _note(folder, "failed", str(told))
        log.info("The run failed: %s", told, exc_info=error)
        if isinstance(told, UnexpectedError):
            told.hint = f"; {folder / 'train.log'} or HYDRA_FULL_ERROR=1 shows the traceback."
        if told is error:
            raise
        raise told from error


def _note(folder: Path, status: str, error: str | None = None) -> None:
    if not is_main_process():
        return
    with suppress(OSError, ValueError):  # what ended the run is the error to raise
        if read_info(folder).get("status") == "finished":
            return  # it has done its passes, before or just now
        update_info(folder, status=status, error=error)
