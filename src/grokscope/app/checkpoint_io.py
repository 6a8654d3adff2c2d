"""How Lightning reads the checkpoint that a run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grokscope.app.checkpoints import read_checkpoint
from grokscope.callbacks.checkpoint_io import WholeFiles


class CheckedCheckpoints(WholeFiles):
    """Loads what has been checked, where Lightning would parse the file a second time."""

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """See :func:`~grokscope.app.checkpoints.read_checkpoint`."""
        return read_checkpoint(Path(path))
