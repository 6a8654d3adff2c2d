"""Experiments start, record and resume; the quick ones show their published numbers."""

from __future__ import annotations

from pathlib import Path

import emnist_files
import h5py
import numpy as np
import pytest
import supplied
import torch
from entry import ROOT, train

from grokscope.app import training

EXPERIMENTS = sorted(
    path.stem for path in (ROOT / "configs/experiment").glob("*.yaml") if path.stem != "none"
)


TINY_GPT2 = [
    "trainer.precision=32-true",
    "net.d_model=24",
    "net.n_layers=2",
    "net.context=8",
    "data.phi=2.0",
    "data.batch_size=64",
]
TINY_FACTS = {
    "wang": ["data.entities=30", "data.relations=10", "data.out_degree=5", "data.iid_ratio=0.1"],
    "wang_comparison": ["data.entities=40", "data.attributes=3"],
}


def overrides(name: str, request: pytest.FixtureRequest) -> list[str]:
    if name.startswith(("omnigrok_imdb", "omnigrok_qm9")):
        return supplied.overrides(name, request.getfixturevalue("tmp_path") / "supplied")
    if name == "minegishi_ticket":  # a mask that needs no other run
        return ["ticket.method=random", "ticket.reset=own"]
    if name.startswith("kumar_emnist"):
        return emnist_files.write(request.getfixturevalue("tmp_path") / "supplied")
    if name == "humayun_cifar10":
        return supplied.cifar10(request.getfixturevalue("tmp_path") / "supplied")
    if name.startswith("mallinar"):
        return ["data.modulus=23"]
    if name.startswith("omnigrok_modadd"):
        return ["data.modulus=13"]
    if name in ("wang", "wang_comparison"):  # an epoch of the published size takes hours here
        return [*TINY_GPT2, *TINY_FACTS[name]]
    if name.startswith("power") or name == "thilak":  # 512 equations a step take 0.1 s each
        return ["data.n_equations=400"]
    if name == "doshi_polynomial":
        return ["data.modulus=5"]
    if name == "doshi_batchnorm":  # 96 steps an epoch
        return ["data.train_fraction=0.05"]
    of_mnist = ("omnigrok", "golechha", "humayun", "kumar_mnist", "minegishi_mnist")
    if not name.startswith(of_mnist) or "teacher_student" in name:
        return []
    folder = request.getfixturevalue("shared") / "data" / "mnist"
    few = ("local_complexity.n_points=10", "adversarial.n_samples=10")
    points = [f"measures.progress.{e}" for e in few if name.startswith("humayun")]
    return [f"data.data_dir={folder}", "data.train_images=t10k", "data.n_test=200", *points]


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch) -> None:
    """They take longer than three epochs, and have tests of their own."""
    monkeypatch.setattr(training, "save_figures", lambda run: None)


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


@pytest.mark.parametrize("net", ["centred_committee", "linearised_committee"])
def test_a_committee_may_be_replaced_by_its_change_or_its_line(net: str, tmp_path: Path) -> None:
    run = train(tmp_path, "experiment=kumar_small", f"net={net}", "trainer.max_epochs=2")
    assert np.isfinite(run.metrics["test_loss"]).all()


@pytest.mark.parametrize("name", ["levi_small", "wang_small", "quickstart", "power_small"])
def test_every_measure_at_once(name: str, request, tmp_path: Path) -> None:
    settings = [f"experiment={name}", *overrides(name, request), "trainer.max_epochs=2"]
    run = train(tmp_path, *settings, "measures=all", "measures.probe=10")
    for column in ("numerics/nlm_cosine", "weights/norm", "hessian/residual", "layers/cka"):
        assert np.isfinite(run.metrics[column]).all(), column
    has_classes = name == "quickstart"
    assert np.isfinite(run.metrics["capacity/capacity"][:, -1]).all() == has_classes
    assert set(run.info["seconds_by_measure"]) >= {"numerics", "hessian", "sample", "input"}


REPRESENTATIVES = {  # of the families; tests/e2e/test_resume.py has more of some
    *("power_small", "liu_effective", "wang_small", "doshi_batchnorm", "levi_two_layer_small"),
    *("mallinar_small", "kumar_small", "humayun_small", "minegishi_ticket", "golechha_small"),
}


@pytest.mark.parametrize(
    "name",
    [n if n in REPRESENTATIVES else pytest.param(n, marks=pytest.mark.slow) for n in EXPERIMENTS],
)
def test_going_on_changes_no_bit(name: str, request, tmp_path: Path) -> None:
    settings = [f"experiment={name}", *overrides(name, request)]
    whole = train(tmp_path / "whole", *settings, "trainer.max_epochs=4")
    train(tmp_path / "parts", *settings, "trainer.max_epochs=2")
    parts = train(tmp_path / "parts", *settings, "trainer.max_epochs=4", "run=last")
    ours, theirs = contents(parts.path), contents(whole.path)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if ours[key] != theirs[key]] == []


def contents(run: Path) -> dict[str, bytes]:
    """Every dataset of a run's files, and the weights and buffers at its end."""
    found: dict[str, bytes] = {}
    for path in run.glob("*.h5"):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, node, path=path: (
                    found.update({f"{path.name}/{name}": node[()].tobytes()})
                    if isinstance(node, h5py.Dataset)
                    else None
                )
            )
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return found | {name: t.numpy().tobytes() for name, t in last["state_dict"].items()}


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


def test_liu_effective_reproduces_the_printed_steps(tmp_path) -> None:
    """Seed 58: loss 0.981, train 0.9 at 1130, test 0.9 at 1530, RQI 0.95 at 800; rows every 10."""
    settings = ["trainer.max_epochs=1560", "measures.kinds=[]"]
    metrics = train(tmp_path, "experiment=liu_effective", *settings).metrics
    assert metrics["train_loss"][0] == pytest.approx(0.981, abs=5e-4)
    for name, clock, level, printed in (
        ("train_acc", "epoch", 0.9, 1130),
        ("test_acc", "epoch", 0.9, 1530),
        ("representation/rqi", "representation/epoch", 0.951, 800),
    ):
        assert metrics[clock][np.argmax(metrics[name] >= level)] == pytest.approx(printed, abs=20)


def test_teacher_and_student_reproduce_the_printed_rows(tmp_path) -> None:
    """Epochs 200, 400, 600 of the notebook: losses to its four digits."""
    schedule = ["schedule.metrics='every 200'", "measures.kinds=[]", "trainer.max_epochs=601"]
    metrics = train(tmp_path, "experiment=omnigrok_teacher_student", *schedule).metrics
    printed = {
        200: (0.002719, 0.016901, 0.14, 0.04),
        400: (0.000940, 0.012941, 0.64, 0.07),
        600: (0.000452, 0.011120, 0.91, 0.10),
    }
    names = ("train_loss", "test_loss", "train_acc", "test_acc")
    for epoch, row in printed.items():
        found = [metrics[name][metrics["epoch"] == epoch][0] for name in names]
        assert found == pytest.approx(row, rel=5e-3, abs=1e-6)
