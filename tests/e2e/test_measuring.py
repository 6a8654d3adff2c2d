"""``src/measure.py``: what a run would have recorded, from its checkpoints."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from grokscope import Run, runs
from grokscope.store.lock import FolderLock

ROOT = Path(__file__).parents[2]
AT = "'at 0 3 7 11'"
KINDS = ("batch", "weight", "sample", "input")
TRANSFORMER = [
    *("data.encoding=tokens", "net=transformer", "net.n_tokens=8"),
    *("net.d_model=8", "net.n_heads=2", "net.d_mlp=8", "net.d_head=4"),
]
FULL = [
    *("measures=full", "measures.top_k=7", "measures.probe=9", "trainer.max_epochs=12"),
    *(f"schedule.{name}={AT}" for name in KINDS),
    *("schedule.checkpoint='at 0 3 7 11 12'", "hydra.run.dir=full"),
]


def succeed(command, *arguments: str, script: str = "measure"):
    result = command(script, *arguments)
    assert (result.err, result.code) == ("", 0)
    return result


def content(run: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "measured" not in p.parts}


def columns(run: Run, kind: str) -> dict[str, np.ndarray]:
    return {n: v for n, v in run.metrics.items() if n.startswith(f"gop/{kind}/")}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["trainer.precision=64-true", "model.l2=0.01"],
        ["trainer.precision=bf16-mixed"],
        TRANSFORMER,
    ],
    ids=["default", "double", "mixed", "transformer"],
)
def test_rows_equal_those_that_the_run_recorded(command, tiny, extra):
    settings = [s for s in tiny if extra is not TRANSFORMER or not s.startswith("net.widths")]
    succeed(command, *settings, *FULL, *extra, script="train")
    before = content(Path("full"))
    result = succeed(command, "run=full")
    assert "at 5 checkpoints; the rows are in full/measured/default" in result.out
    assert content(Path("full")) == before
    run = Run.open("full")
    again = run.measured()
    assert again.status == "finished"
    assert again.metrics["epoch"].tolist() == [0, 3, 7, 11, 12]
    for name in ("train_loss", "test_acc"):
        np.testing.assert_array_equal(again.metrics[name], run.metrics[name][[0, 3, 7, 11, 12]])
    for kind in KINDS:
        old, new = columns(run, kind), columns(again, kind)
        assert old.keys() == new.keys()
        assert run.layer_names(kind) == again.layer_names(kind)
        for name, values in old.items():
            assert len(new[name]) == 5
            np.testing.assert_array_equal(new[name][:4], values, err_msg=name)


FAMILIES = "grokscope.callbacks.families"
PROGRESS = [
    f"+measures.progress.{name}={{_target_:{FAMILIES}.{target},schedule:{AT}{more}}}"
    for name, target, more in (
        ("numerics", "numerics.NumericsGuard", ""),
        ("norm", "norm.NetNorm", ""),
        ("ntk", "kernels.KernelProgress", ",probe:5"),
    )
]


def test_progress_measures_equal_those_that_the_run_recorded(command, tiny):
    choice = ["model=classification", "measures.kinds=[]", *PROGRESS]
    succeed(command, *tiny, *FULL, *choice, script="train")
    floor = succeed(
        command, "run=full", "measures.kinds=[batch]", "measures.noise_floor=true", "name=noise"
    )
    assert "batch, numerics, norm, ntk, noise_floor at 5 checkpoints" in floor.out
    assert (
        "numerics, norm, ntk at 5 checkpoints" in succeed(command, "run=full", "measures=none").out
    )
    run = Run.open("full")
    again = run.measured()
    for group in ("numerics", "norm", "ntk"):
        old, new = (
            {n: v for n, v in each.metrics.items() if n.startswith(f"{group}/")}
            for each in (run, again)
        )
        assert old.keys() == new.keys()
        assert len(old) > 2
        for name, values in old.items():
            np.testing.assert_array_equal(new[name][:4], values, err_msg=name)


def test_a_measure_that_the_run_had_not_is_typed_and_one_of_the_optimizer_left_out(command, tiny):
    slingshot = "+measures.progress.sling={_target_:" + FAMILIES + ".thilak.SlingshotMeasures,"
    slingshot += "layers:['layers.0'],classifier:layers.1.weight,probe:5}"
    succeed(command, *tiny, *FULL, slingshot, script="train")
    assert "measures.progress" not in succeed(command, "run=full", "measures.kinds=[batch]").out
    typed = "+measures.progress.norm={_target_:" + FAMILIES + ".norm.NetNorm}"
    succeed(command, "run=full", "measures.kinds=[]", typed, "name=norms")
    found = Run.open("full").measured("norms").metrics
    assert len(found["norm/norm"]) == 5
    assert not [name for name in found if name.startswith("sling/")]


ADDITION = ["model=classification", "measures.kinds=[]"]


def test_circuits_are_measured_later_at_the_frequencies_of_the_end(command, tiny):
    succeed(command, *tiny, *FULL, *ADDITION, "measures=circuits", script="train")
    end = Run.open("full").metrics["circuits/key_frequencies"][-1]
    keys = [k for k, is_key in enumerate(end, 1) if is_key]
    typed = f"measures.progress.circuits.key_frequencies={keys}".replace(" ", "")
    succeed(command, "run=full", "measures=circuits", "measures.kinds=[]", typed)
    found = Run.open("full").measured().metrics
    assert (found["circuits/key_frequencies"] == end).all()
    assert np.isfinite(found["circuits/restricted_loss_all"]).all()
    old = Run.open("full").metrics
    _, at, there = np.intersect1d(
        found["circuits/epoch"], old["circuits/epoch"], return_indices=True
    )
    assert len(at) >= 2
    losses = old["circuits/loss_test"][there]
    np.testing.assert_allclose(found["circuits/loss_test"][at], losses, rtol=1e-12)


@pytest.mark.refusal
def test_circuits_of_another_operation_are_refused_before_anything_runs(command, tiny):
    choice = [*tiny, *FULL, *ADDITION, "data.operation=multiply"]
    result = command("train", *choice, "measures=circuits")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert (
        "measures.progress.circuits: circuit measures need the targets (a + b) mod 7. Leave"
        in (result.err)
    )
    succeed(command, *choice, script="train")
    assert command("measure", "run=full", "measures=circuits").err.count("\n") == 1


def test_with_mini_batches_the_probe_kinds_are_those_of_the_run(command, tiny):
    succeed(command, *tiny, *FULL, "data.batch_size=5", script="train")
    succeed(command, "run=full")
    run = Run.open("full")
    for kind in ("sample", "input"):
        old, new = columns(run, kind), columns(run.measured(), kind)
        for name, values in old.items():
            np.testing.assert_array_equal(new[name][:4], values, err_msg=name)
    first = run.metrics["gop/batch/step"]
    np.testing.assert_array_equal(run.measured().metrics["gop/batch/step"][:4], first)
    ratio = run.measured().metrics["gop/batch/trace"][:4] / run.metrics["gop/batch/trace"]
    assert np.all(np.abs(ratio - 1) < 0.5)  # the weights move within a pass
    assert np.all(ratio != 1)


def test_kinds_epochs_and_probe_are_chosen(command, run):
    arguments = ["measures.kinds=[sample]", "measures.probe=6", "epochs=[0,2]", "name=few"]
    succeed(command, f"run={run}", *arguments)
    found = Run.open(run).measured("few")
    assert found.epochs("sample").tolist() == [0, 2]
    assert found.config["measures"]["probe"] == 6
    assert found.config["measures"]["top_k"] == 100
    assert not columns(found, "batch")
    assert [each.path for each in runs(".")] == [run]
    succeed(command, f"run={run}", "epochs='every 2'", "name=even", "measures=gop")
    assert Run.open(run).measured("even").epochs("weight").tolist() == [0, 2]


def test_a_run_with_dense_matrices_is_measured_without(command, tiny):
    words = ["storage.dense=true", "schedule.factor='at 0'", "trainer.max_epochs=2"]
    succeed(command, *tiny, *words, "hydra.run.dir=run", script="train")
    succeed(command, "run=run", "measures=gop")
    assert not (Path("run") / "measured" / "default" / "gop_full.h5").exists()
    refused = command("measure", "run=run", "name=dense", "storage.dense=true")
    assert refused.err.startswith("error: storage.dense is not a setting")
    assert refused.err.count("\n") == 1


def test_rows_are_replaced_only_on_request(command, run):
    one = [f"run={run}", "measures.kinds=[weight]"]
    succeed(command, *one, "epochs=0")
    refused = command("measure", *one)
    assert refused.err.startswith("error: name must be new, got default: run/measured/default")
    assert refused.err.count("\n") == 1
    assert Run.open(run).measured().epochs("weight").tolist() == [0]
    succeed(command, *one, "replace=true")
    assert Run.open(run).measured().epochs("weight").tolist() == [0, 1, 2]
    assert os.listdir(run / "measured") == ["default"]


def test_a_torn_checkpoint_is_skipped_with_a_warning(command, run):
    cut(run / "checkpoints" / "epoch_1.ckpt")
    shutil.copy(run / "checkpoints" / "epoch_0.ckpt", run / "checkpoints" / "epoch_9.ckpt")
    result = command("measure", f"run={run}", "measures.kinds=[batch]")
    assert result.code == 0
    one, nine = result.err.splitlines()
    assert one.startswith("warning: run/checkpoints/epoch_1.ckpt is skipped: it cannot")
    assert nine.startswith("warning: run/checkpoints/epoch_9.ckpt is skipped: it is one after 0")
    found = Run.open(run).measured()
    assert found.epochs("batch").tolist() == [0, 2]
    assert found.info["skipped"] == ["epoch_1.ckpt", "epoch_9.ckpt"]


@pytest.mark.parametrize("state", ["killed between the renames", "removed in part", "whole"])
def test_what_an_earlier_command_left_beside_its_rows_goes(command, run, state):
    succeed(command, f"run={run}", "measures.kinds=[weight]")
    place, moved = run / "measured" / "default", run / "measured" / ".default.1.old"
    if state == "killed between the renames":
        place.rename(moved)
        result = command("measure", f"run={run}", "measures.kinds=[bogus]")
        assert result.code == 1  # refused before anything is looked at
        assert moved.exists()
    else:
        shutil.copytree(place, moved)
    if state == "removed in part":
        (moved / ".lock").unlink()
    succeed(command, f"run={run}", "measures.kinds=[batch]", "replace=true")
    assert [path.name for path in (run / "measured").iterdir()] == ["default"]
    assert "gop/batch/trace" in Run.open(run).measured().metrics


@pytest.mark.refusal
def test_without_a_whole_checkpoint_nothing_is_written(command, run):
    for path in (run / "checkpoints").iterdir():
        cut(path)
    result = command("measure", f"run={run}")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: run must have a whole checkpoint, got")
    assert os.listdir(run / "measured") == []


def test_a_run_that_goes_on_is_measured_up_to_now(command, run):
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "running"}))
    with FolderLock(run):
        result = succeed(command, f"run={run}", "measures.kinds=[weight]")
    assert "replace=true takes in its later checkpoints" in result.out


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["run must be a run folder: python src/measure.py run="]),
        (["run=nowhere"], ["run must be a run folder, got nowhere: no config.yaml"]),
        (["runn=x"], ["runn is not a setting; did you mean run?"]),
        (["measures.kinds=[bogus]"], ["measures.kinds must be one of batch", "got 'bogus'"]),
        (["measures.kinds=batch"], ["measures.kinds must be a list", "got 'batch'"]),
        (["measures.kinds=[batch,trajectory]"], ["got 'trajectory'", "successive steps"]),
        (["measures=none"], ["measures.kinds must hold at least one of batch, weight"]),
        (["measures.probe=0"], ["measures.probe must be an integer >= 1", "got 0"]),
        (["measures.top_k=x"], ["measures.top_k must be an integer >= 1", "got 'x'"]),
        (["epochs=[0,77]"], ["epochs must be those of checkpoints (0, 1, 2), got [77]"]),
        (["epochs=[a]"], ["epochs must be an integer >= 0, got 'a'"]),
        (["epochs=sometimes"], ["epochs must be 'every N'", "got 'sometimes'"]),
        (["epochs='at 50'"], ["epochs must name at least one checkpoint, got 'at 50'"]),
        (["epochs=[]"], ["epochs must name at least one checkpoint"]),
        (["epochs={a:1}"], ["epochs must be an integer >= 0, got 'a'"]),
        (["name=../up"], ["name must be a plain folder name, got '../up'"]),
        (["replace=maybe"], ["replace must be true or false, got 'maybe'"]),
        (["device=tpu"], ["device must be one of cpu", "got 'tpu'"]),
    ],
)
def test_measuring_says_what_it_needs(command, run, arguments, fragments):
    named = any(a.startswith("run") for a in arguments) or not arguments
    result = command("measure", *([] if named else [f"run={run}"]), *arguments)
    assert result.err.startswith("error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert all(fragment in result.err for fragment in fragments), result.err
    assert (result.code, result.out) == (1, "")
    assert not (run / "measured").exists()


def _without_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def _of_another_network(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("- 16", "- 12"))


def _foreign_class(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("grokscope.data.ModularDataModule", "os.system"))


def _scaled_gradients(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("32-true", "16-mixed"))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (_without_checkpoints, "run must have checkpoints epoch_<n>.ckpt, got run with none"),
        (_of_another_network, "run/checkpoints/epoch_0.ckpt: parameter net.layers.0.weight"),
        (_foreign_class, "data._target_ must name one of our own classes, got 'os.system'"),
        (_scaled_gradients, "measures.kinds must be of sample, input for a run with trainer"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_run_that_cannot_be_measured_is_refused(command, run, spoil, fragment):
    spoil(run)
    result = command("measure", f"run={run}")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert fragment in result.err
    assert not (run / "measured" / "default").exists()


def _commands() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pattern = re.compile(r"python src/measure\.py ([^`#\n]*)")
    return sorted({c.strip() for p in pages for c in pattern.findall(p.read_text("utf-8"))})


@pytest.mark.parametrize("line", _commands())
def test_every_command_line_of_the_documentation_composes(line):
    overrides = [w for w in shlex.split(line) if "=" in w and not w.startswith("run=")]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        compose("measure", overrides=overrides)


def test_the_documentation_shows_commands():
    assert len(_commands()) > 2
