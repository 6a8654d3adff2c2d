"""Names the checkpoint in errors that arise because its content does not fit the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from grokscope.app.errors import UserError
from grokscope.app.unexpected import describe_unexpected, is_own_refusal, is_users_own

OTHER_CAUSES = (
    UserError,
    MisconfigurationException,  # a setting of the trainer
    OSError,
    MemoryError,
    torch.OutOfMemoryError,
)


class _FirstPass(Callback):
    """Notes that a pass has been done."""

    done = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note it."""
        self.done = True


@contextmanager
def naming_the_checkpoint(path: str | Path | None, trainer: Trainer) -> Iterator[None]:
    """Name the checkpoint in an error that comes before the first pass after it is done.

    Torch and Lightning put optimizer states, counters and random states back without a look at
    their types; a wrong one shows when it is used, in an error that names neither key nor file.

    Raises:
        UserError: In place of an error that nobody has foreseen and no code of the user's raised.
    """
    if path is None:
        yield
        return
    first = _FirstPass()
    trainer.callbacks.append(first)  # type: ignore[attr-defined]
    try:
        yield
    except OTHER_CAUSES:
        raise
    except Exception as error:
        if first.done or is_own_refusal(error) or is_users_own(error):
            raise
        raise UserError(
            f"ckpt_path must be a checkpoint that this run can go on from, got {path}: "
            f"{describe_unexpected(error)}"
        ) from error
