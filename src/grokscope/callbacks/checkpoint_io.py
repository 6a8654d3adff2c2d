"""Writes checkpoints whole and beside their target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from grokscope.store.replacing import make_folder, replacing


class WholeFiles(TorchCheckpointIO):
    """Replaces a checkpoint only when the new one is on the disk.

    Lightning's own way goes through ``$TMPDIR``, which may be full or another disk, where each
    kill leaves a file of the checkpoint's size; and nothing there reaches the disk before the
    file gets its name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one file; errors as for :func:`grokscope.store.replacing.replacing`."""
        content = BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        with replacing(Path(path)) as file:
            file.write(content.getbuffer())


@contextmanager
def writing_whole_files(strategy: Strategy) -> Iterator[None]:
    """Let a strategy write so, unless the user has chosen another way."""
    chosen = strategy.checkpoint_io
    if type(chosen) is TorchCheckpointIO:
        strategy.checkpoint_io = WholeFiles()
    try:
        yield
    finally:
        strategy.checkpoint_io = chosen
