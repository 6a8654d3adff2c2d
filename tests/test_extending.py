"""docs/extending.md: its files, written as they are printed, make a run."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import entry
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from grokscope import Run
from grokscope.app import training

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the template with the files of the page."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "src").mkdir()
    for name in ("train", "eval", "measure"):
        shutil.copy(ROOT / "src" / f"{name}.py", folder / "src")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def train(project: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "src/train.py", "experiment=parity", "threads=1", *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, env=environment
    )


def test_each_part_is_short() -> None:
    assert len(FILES) == 6
    assert all(len(content.splitlines()) < 60 for content in FILES.values())


def test_the_example_trains_records_and_goes_on(project) -> None:
    settings = ["hydra.run.dir=run", "measures=full", "data.n_train=64", "measures.probe=20"]
    done = train(project, *settings, "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    done = train(project, *settings[1:], "run=run", "trainer.max_epochs=5")
    assert done.returncode == 0, done.stderr
    metrics = Run.open(project / "run").metrics
    assert metrics["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert metrics["relevant/epoch"].tolist() == [0, 1, 2, 3, 4]
    assert metrics["relevant/norm_by_bit"].shape == (5, 20)
    assert np.isfinite(metrics["gop/sample/trace"]).all()
    squares = metrics["relevant/norm_by_bit"] ** 2
    np.testing.assert_allclose(
        metrics["relevant/share"], squares[:, :3].sum(1) / squares.sum(1), rtol=1e-5
    )


def test_names_of_a_run_count_only_from_the_folder_that_is_used_now(
    project, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "src"))
    monkeypatch.setattr(training, "save_figures", lambda run: None)
    small = ("data.n_train=64", "trainer.max_epochs=2", "report=false")
    run_script(project, "train", "experiment=parity", "hydra.run.dir=own", *small)
    run_script(project, "eval", "run=own")
    run_script(project, "measure", "run=own", "measures.kinds=[weight]", "epochs=0")
    run_script(ROOT, "eval", f"--config-dir={project / 'configs'}", "run=own")
    said = capsys.readouterr().out
    assert said.count("own after 2 epochs") == 2
    assert "Measured weight, relevant at 1 checkpoints" in said
    with pytest.raises(SystemExit):
        run_script(ROOT, "eval", "run=own")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "data._target_ must name one of our own classes, got 'parity.task" in said


def run_script(root: Path, script: str, *arguments: str) -> None:
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    with entry.put_back(script, *arguments):
        runpy.run_path(str(root / "src" / f"{script}.py"), run_name="__main__")


def test_a_mistake_is_one_line(project) -> None:
    done = train(project, "data.k=21")
    assert done.returncode == 1
    assert done.stderr == "error: data.k must be an integer >= 1 and <= 20, got 21.\n"


@pytest.mark.slow
def test_the_example_memorises_and_generalises_later(project) -> None:
    done = train(project, "hydra.run.dir=long")
    assert done.returncode == 0, done.stderr
    run = Run.open(project / "long")
    times = run.grokking(test=0.95)
    assert times.memorised is not None
    assert times.generalised is not None
    assert times.generalised > 1.2 * times.memorised
    share = run.metrics["relevant/share"]
    assert share[0] < 0.25
    assert share[-1] > 0.5
