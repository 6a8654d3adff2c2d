"""Loggers have the same scalars under the same names, and the figures at the end."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from entry import call

EPOCHS = 6


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory) -> dict[str, Path]:
    found = {}
    for logger in ("csv", "tensorboard", "wandb_offline"):
        folder = tmp_path_factory.mktemp(logger) / "run"
        length = f"trainer.max_epochs={EPOCHS}"
        call("train", *tiny, length, f"logger={logger}", f"hydra.run.dir={folder}")
        found[logger] = folder
    return found


def in_csv(folder: Path) -> dict[str, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {n: float(v) for row in csv.DictReader(file) for n, v in row.items() if v}


def in_tensorboard(folder: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def records(path: Path) -> Iterator[bytes]:
    """Of wandb's own file: LevelDB's log format after a header of seven bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


BLOCK, WHOLE, LAST = 2**15, 1, 4


def in_wandb(folder: Path) -> dict[str, float]:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    last: dict[str, float] = {}
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for data in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            last[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return last


def test_names_and_values_are_the_same_in_all(folders) -> None:
    expected = in_csv(folders["csv"])
    scalars = {n for n in expected if n not in ("epoch", "step")}
    assert {"train/loss", "test/acc", "gop/batch/trace", "gop/weight/effective_rank"} <= scalars
    events, history = in_tensorboard(folders["tensorboard"]), in_wandb(folders["wandb_offline"])
    for name in scalars:
        own = pytest.approx(expected[name], rel=1e-6, nan_ok=True)
        assert events.Scalars(name)[-1].value == own, name
        assert history[name] == own, name


def test_the_figures_are_attached_at_the_end(folders) -> None:
    events = in_tensorboard(folders["tensorboard"])
    assert set(events.Tags()["images"]) == {"figures/curves", "figures/gop"}
    media = [p.name for p in folders["wandb_offline"].rglob("media/images/figures/*.png")]
    assert sorted(name.split("_")[0] for name in media) == ["curves", "gop"]
