"""Small runs with chosen settings and curves."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from grokscope.callbacks.rows import LOSSES, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.run_writer import METRICS


def write_run(folder, config=None, epochs=(), curves=None, **info):
    """A finished run; ``curves`` are (rows,) of the top level by name."""
    curves = curves or {}
    extra = tuple(name for name in curves if name not in LOSSES)
    writer = RunWriter(folder, {METRICS: [(root_table(extra, 0), max(1, len(epochs)))]})
    for row, epoch in enumerate(epochs):
        values = {name: np.nan for name in LOSSES} | {n: v[row] for n, v in curves.items()}
        writer.append(METRICS, "", values | {"epoch": int(epoch), "global_step": int(epoch)})
    writer.finalise()
    update_info(folder, **({"status": "finished", "name": "small"} | info))
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture
def write():
    return write_run
