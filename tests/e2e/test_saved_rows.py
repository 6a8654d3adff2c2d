"""A run goes on only from a checkpoint whose rows are there: no hole, and nothing deleted."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from grokscope import Run
from grokscope.app import checkpoints

OFTEN = ("schedule.checkpoint=every 2", "report=false", "hydra.run.dir=run")


@pytest.fixture
def longer(command, tiny) -> Path:
    """A run of eight epochs in ``run``, and its rows after four in ``earlier``."""
    assert command("train", *tiny, *OFTEN, "trainer.max_epochs=4").code == 0
    shutil.copytree("run", "earlier")
    done = command("train", *tiny, *OFTEN[:-1], "run=run", "trainer.max_epochs=8")
    assert (done.code, done.err) == (0, "")
    return Path("run")


@pytest.mark.parametrize("name", ["metrics.h5", "gop_layers.h5"])
def test_rows_that_were_put_back_lead_to_an_earlier_checkpoint(command, tiny, longer, name):
    shutil.copy(f"earlier/{name}", longer / name)
    done = command("train", *tiny, *OFTEN[:-1], "run=run", "trainer.max_epochs=10")
    assert done.code == 0, done.err
    log = (longer / "train.log").read_text()
    found = re.search(rf"cannot be used \({name} has [45] of the 8 rows before it\): (.*)", log)
    assert found
    assert found[1] == "going on from run/checkpoints/epoch_4.ckpt."
    run = Run.open(longer)
    assert run.metrics["epoch"].tolist() == [*range(11)]
    assert run.epochs("batch").tolist() == [*range(10)]


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["metrics.h5", "gop_full.h5"])
@pytest.mark.parametrize("how", ["run=run", "resume=true"])
def test_a_file_of_rows_that_is_gone_is_named_and_nothing_is_deleted(
    command, tiny, longer, name, how
):
    (longer / name).unlink()
    if how == "resume=true":
        info = (longer / "run.json").read_text().replace("finished", "killed")
        (longer / "run.json").write_text(info)
    before = {p: p.stat().st_ino for p in longer.rglob("*") if p.suffix in (".h5", ".ckpt")}
    where = OFTEN if how == "resume=true" else OFTEN[:-1]
    done = command("train", *tiny, *where, how, "trainer.max_epochs=10")
    assert done.code == 1
    assert done.err.startswith(f"error: run{os.sep}{name} must be there, with the rows before")
    assert done.err.count("\n") == 1
    after = {p: p.stat().st_ino for p in longer.rglob("*") if p.suffix in (".h5", ".ckpt")}
    assert after == before


def test_a_disk_that_is_full_at_the_last_checkpoint_does_not_finish_the_run(
    command, tiny, monkeypatch
):
    from grokscope.callbacks import checkpoint_io

    real = checkpoint_io.WholeFiles.save_checkpoint

    def full(self, checkpoint, path, storage_options=None):
        if checkpoint["epoch"] >= 3:
            raise OSError(28, "No space left on device", str(path))
        real(self, checkpoint, path, storage_options)

    settings = (*tiny, *OFTEN, "schedule.checkpoint=at 0 2", "trainer.max_epochs=4")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io.WholeFiles, "save_checkpoint", full)
        done = command("train", *settings)
    assert done.code == 1
    assert done.err.startswith("error: no room for")
    assert Run.open("run").status == "failed: disk full"
    done = command("train", *settings, "resume=true")
    assert (done.code, done.err) == (0, "")
    assert Run.open("run").status == "finished"
    assert Run.open("run").metrics["epoch"].tolist() == [*range(5)]
    assert Path("run/checkpoints/last.ckpt").is_file()


@pytest.mark.refusal
@pytest.mark.parametrize("how", ["run=run", "resume=true"])
@pytest.mark.parametrize("fault", ["EIO", "no memory", "rows"])
def test_nothing_is_begun_anew_where_checkpoints_may_be_whole(
    command, tiny, longer, monkeypatch, how, fault
):
    info = (longer / "run.json").read_text().replace("finished", "killed")
    (longer / "run.json").write_text(info)

    def refused(path):
        if fault == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        raise MemoryError

    if fault == "rows":
        for path in (longer / "checkpoints").glob("epoch_*"):
            path.unlink()
        shutil.copy("earlier/metrics.h5", longer / "metrics.h5")
    else:
        monkeypatch.setattr(checkpoints, "checked_copy", refused)
    before = {p: p.stat().st_ino for p in longer.rglob("*") if p.suffix in (".h5", ".ckpt")}
    where = OFTEN if how == "resume=true" else OFTEN[:-1]
    done = command("train", *tiny, *where, how, "trainer.max_epochs=10")
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "run" in done.err
    after = {p: p.stat().st_ino for p in longer.rglob("*") if p.suffix in (".h5", ".ckpt")}
    assert after == before
