"""``train.log``: never written through a link, and no run fails because of it."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from pathlib import Path

from grokscope.store.nofollow import open_regular


class LogFile(logging.FileHandler):
    """Appends to a regular file; a line that cannot be written is left out."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing: a full disk is told of by what the run loses, not by its log."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return open(open_regular(Path(self.baseFilename), flags), "a", encoding="utf-8")
