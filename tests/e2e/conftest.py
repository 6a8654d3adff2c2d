"""Runs the entry points as a user does, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import entry
import pytest

from grokscope.app import training

TINY = (
    "experiment=none",
    "data.modulus=7",
    "net.widths=[14,16,7]",
    "model.optimizer.lr=1e-2",
    "schedule=dense",
    "threads=1",
)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def files(self) -> set[str]:
        """Everything below the working folder."""
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*")}

    @property
    def run(self) -> Path:
        """The newest run folder."""
        return max(self.folder.rglob("run.json"), key=lambda p: p.stat().st_mtime_ns).parent


Command = Callable[..., Result]


def execute(script: str, *arguments: str) -> int:
    """The exit code of ``python src/<script>.py <arguments>``."""
    try:
        entry.call(script, *arguments)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Settings of a run that takes milliseconds an epoch."""
    return TINY


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Command:
    """``command("train", "seed=1")`` runs ``src/train.py seed=1`` in an empty folder.

    Without figures, which take most of the time of a small run, unless ``figures=True``.
    """
    monkeypatch.chdir(tmp_path)

    def call(script: str, *arguments: str, figures: bool = False) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            if not figures:
                patch.setattr(training, "save_figures", lambda run: None)
            code = execute(script, *arguments)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err, tmp_path)

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of two epochs, made once."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert execute("train", *TINY, "trainer.max_epochs=2", "hydra.run.dir=run") == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it, as the folder ``run`` of the working folder."""
    shutil.copytree(finished, tmp_path / "run")
    return Path("run")
