"""Names of a run's checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from grokscope.store.nofollow import readable_subfolder

FOLDER, LAST = "checkpoints", "last.ckpt"
EPOCH = re.compile(r"epoch_([0-9]{1,18})\.ckpt")


def scheduled(folder: Path) -> dict[int, Path]:
    """``epoch_<n>.ckpt`` of a run's folder by n, ascending.

    Raises:
        NotPlainFileError: If they lie in no folder of the run's owner.
    """
    try:
        place = readable_subfolder(folder, FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = ((EPOCH.fullmatch(path.name), path) for path in place.glob("epoch_*.ckpt"))
    return dict(sorted((int(name[1]), path) for name, path in found if name and path.is_file()))
