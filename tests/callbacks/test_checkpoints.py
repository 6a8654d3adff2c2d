"""Checkpoints are whole, beside their target, on the disk, and after the rows before them."""

from __future__ import annotations

import os
import tempfile

import pytest
import small
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from grokscope import GOPCallback
from grokscope.callbacks import Checkpoints
from grokscope.store.run_writer import RunWriter


def fit(folder, epochs=4, ckpt_path=None, saved=None):
    callbacks = [GOPCallback(output_dir=folder), saved or Checkpoints(folder / "ckpt", "every 2")]
    trainer = small.trainer(epochs, callbacks, folder)
    trainer.fit(small.module(), datamodule=small.data(), ckpt_path=ckpt_path)
    return trainer


def test_a_checkpoint_needs_no_room_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    fit(tmp_path)
    names = ["epoch_0.ckpt", "epoch_2.ckpt", "epoch_4.ckpt", "last.ckpt"]
    assert sorted(os.listdir(tmp_path / "ckpt")) == names
    fit(tmp_path, 6, tmp_path / "ckpt" / "last.ckpt")
    last = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 6


def test_the_rows_reach_the_disk_before_their_checkpoint(tmp_path, monkeypatch):
    order, real = [], os.replace
    sync = RunWriter.sync

    def noted(self):
        order.append("rows")
        sync(self)

    def replaced(source, target):
        order.append(os.path.basename(target))
        real(source, target)

    monkeypatch.setattr(RunWriter, "sync", noted)
    monkeypatch.setattr(os, "replace", replaced)
    fit(tmp_path)
    saved = [i for i, name in enumerate(order) if name.endswith(".ckpt")]
    assert len(saved) == 4
    for number in saved[1:-1]:  # before any pass there are no rows
        assert order[number - 1] == "rows"
    assert order[saved[-1] - 3 : saved[-1]] == ["gop_full.h5", "gop_layers.h5", "metrics.h5"]


def test_a_checkpoint_says_how_many_rows_it_presumes(tmp_path):
    fit(tmp_path)
    for passes in (0, 2, 4):
        content = torch.load(tmp_path / "ckpt" / f"epoch_{passes}.ckpt", weights_only=True)
        (state,) = (s for s in content["callbacks"].values() if "rows" in s)
        rows = state["rows"].get("metrics.h5", {})
        assert (rows.get("", 0), rows.get("gop/batch", 0)) == (passes, passes)


def test_drafts_that_a_kill_has_left_are_removed_when_the_run_goes_on(tmp_path):
    fit(tmp_path)
    (tmp_path / "ckpt" / ".last.ckpt.4711-0123abcd.part").write_bytes(b"x" * 1000)
    (tmp_path / ".metrics.h5.4711-0123abcd.part").write_bytes(b"x" * 1000)
    fit(tmp_path, 6, tmp_path / "ckpt" / "last.ckpt")
    assert not [path for path in tmp_path.rglob("*.part")]


def test_another_way_of_saving_that_the_user_has_chosen_stays(tmp_path):
    class Own(TorchCheckpointIO):
        saved: list[str] = []  # noqa: RUF012

        def save_checkpoint(self, checkpoint, path, storage_options=None):
            self.saved.append(os.path.basename(path))
            super().save_checkpoint(checkpoint, path, storage_options)

    trainer = small.trainer(2, [Checkpoints(tmp_path, "every 2")], tmp_path)
    trainer.strategy.checkpoint_io = own = Own()
    trainer.fit(small.module(), datamodule=small.data())
    assert own.saved == ["epoch_0.ckpt", "epoch_2.ckpt", "last.ckpt"]
    assert trainer.strategy.checkpoint_io is own


@pytest.mark.refusal
def test_a_link_in_the_place_of_a_checkpoint_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "last.ckpt").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"last\.ckpt must be a regular file or nothing"):
        fit(tmp_path, saved=Checkpoints(tmp_path / "ckpt", "at 3"))
    assert (tmp_path / "mine").read_text() == "precious"
