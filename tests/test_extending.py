"""docs/extending.md: its files, written as they are printed, make a run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from grokscope import Run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the template with the files of the page."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "src").mkdir()
    shutil.copy(ROOT / "src" / "train.py", folder / "src")
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
