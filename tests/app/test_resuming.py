"""Which run ``resume=true`` goes on with."""

from __future__ import annotations

import errno
import os

import pytest

from grokscope.app.errors import UserError
from grokscope.app.resuming import earlier_run
from grokscope.store import text
from grokscope.store.info import update_info

SETTINGS = ["seed=1"]


@pytest.fixture
def runs(tmp_path):
    """Two runs, the newer one with other settings."""
    update_info(tmp_path / "1", overrides=SETTINGS)
    update_info(tmp_path / "2", overrides=["seed=2"])
    return tmp_path


def cannot_read(monkeypatch, name, error):
    """Let a run's ``run.json`` fail."""
    opened = text.open_regular

    def refuse(path, *how):
        if path.parent.name == name:
            raise OSError(error, os.strerror(error), str(path))
        return opened(path, *how)

    monkeypatch.setattr(text, "open_regular", refuse)


def test_it_is_the_one_with_the_same_settings(runs):
    assert earlier_run(runs, ["resume=true", *SETTINGS]) == runs / "1"
    assert earlier_run(runs, ["seed=3"]) is None


@pytest.mark.refusal
def test_a_disk_that_fails_does_not_make_a_second_run(runs, monkeypatch):
    cannot_read(monkeypatch, "1", errno.EIO)
    with pytest.raises(UserError, match=r"1/run.json cannot be read \(Input/output error\)"):
        earlier_run(runs, SETTINGS)


def test_a_run_that_is_damaged_or_of_somebody_else_is_passed_over(runs, monkeypatch):
    (runs / "2" / "run.json").write_text("{")
    assert earlier_run(runs, SETTINGS) == runs / "1"
    cannot_read(monkeypatch, "1", errno.EACCES)
    assert earlier_run(runs, SETTINGS) is None
