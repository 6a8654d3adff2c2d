"""Experiments start, record and resume; the quick ones show their published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from entry import ROOT, train

EXPERIMENTS = sorted(
    path.stem for path in (ROOT / "configs/experiment").glob("*.yaml") if path.stem != "none"
)


def overrides(name: str, request: pytest.FixtureRequest) -> list[str]:
    if not name.startswith("omnigrok"):
        return []
    folder = request.getfixturevalue("shared") / "data" / "mnist"
    return [f"data.data_dir={folder}", "data.train_images=t10k", "data.n_test=200"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_trains_three_epochs_and_resumes(name: str, request, tmp_path: Path) -> None:
    settings = [f"experiment={name}", *overrides(name, request)]
    run = train(tmp_path, *settings, "trainer.max_epochs=3")
    assert run.status == "finished"
    assert run.metrics["train_loss"].size >= 1
    resumed = train(tmp_path, *settings, "trainer.max_epochs=5", "ckpt_path=last")
    assert resumed.path == run.path
    epochs = resumed.metrics["epoch"]
    assert epochs[-1] == 5
    assert (np.diff(epochs) > 0).all()
    assert np.isfinite(resumed.metrics["test_loss"][[0, -1]]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_run_memorises_first_and_generalises_clearly_later(
    seed: int, tmp_path
) -> None:
    run = train(tmp_path, f"seed={seed}")
    times = run.grokking(patience=100)
    assert times.memorised is not None
    assert times.generalised is not None
    assert times.generalised >= 5 * times.memorised
    at_memorised = run.metrics["epoch"] == times.memorised
    assert run.metrics["test_acc"][at_memorised] < 0.05
    assert run.metrics["test_acc"][-1] >= 0.99
    assert run.epochs("batch").tolist() == list(range(600))


def test_doshi_reproduces_the_printed_row_of_the_official_notebook(tmp_path) -> None:
    """After 100 steps: 8.12e-4, 1.011e-3, 1, 1 (experiment file); six seeds spread by 3 %."""
    run = train(tmp_path, "experiment=doshi")
    metrics = run.metrics
    assert metrics["epoch"][-1] == 100
    assert metrics["train_loss"][-1] == pytest.approx(8.12e-4, rel=0.10)
    assert metrics["test_loss"][-1] == pytest.approx(1.011e-3, rel=0.10)
    assert metrics["train_acc"][-1] == metrics["test_acc"][-1] == 1.0
    assert metrics["train_acc"][8] == pytest.approx(0.65, abs=0.05)
    assert metrics["train_acc"][10] == pytest.approx(0.82, abs=0.05)
    assert metrics["test_acc"][10] < 0.01


LEVI = [
    ["experiment=levi_small"],
    ["experiment=levi", "trainer.max_epochs=500", "threads=1"],
    ["experiment=levi_small", "trainer.max_epochs=500", "data.d_out=3", "data.ratio=1.5"],
    ["experiment=levi_small", "trainer.max_epochs=500", "model.optimizer.weight_decay=0.01"],
]


@pytest.mark.parametrize("settings", LEVI, ids=lambda s: " ".join(s))
def test_levi_agrees_with_the_exact_theory_at_every_stored_epoch(settings, tmp_path) -> None:
    metrics = train(tmp_path, *settings).metrics
    for split in ("train", "test"):
        found, theory = metrics[f"{split}_loss"], metrics[f"theory_{split}_loss"]
        assert len(found) > 100
        np.testing.assert_allclose(found, theory, rtol=1e-6)


def test_modulo_addition_memorises_and_generalises(tmp_path) -> None:
    run = train(tmp_path, "experiment=modulo_addition_small")
    times = run.grokking(patience=500)
    assert times.memorised is not None
    assert times.memorised < 400
    assert times.generalised is not None
    assert times.ratio is not None
    assert times.ratio > 5


@pytest.mark.slow
def test_nanda_small_memorises_and_generalises(tmp_path) -> None:
    run = train(tmp_path, "experiment=nanda_small")
    times = run.grokking()
    assert times.ratio is not None
    assert times.ratio > 5
    assert run.metrics["test_loss"][-1] < 1e-2


@pytest.mark.slow
def test_omnigrok_small_generalises_late(request, tmp_path) -> None:
    settings = [o for o in overrides("omnigrok_small", request) if "n_test" not in o]
    run = train(tmp_path, "experiment=omnigrok_small", *settings)
    times = run.grokking(test=0.75)
    assert times.ratio is not None
    assert times.ratio > 3
