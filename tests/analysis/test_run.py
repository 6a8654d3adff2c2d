"""``Run`` on runs whose rows are known."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from grokscope.analysis import Run, runs
from grokscope.store.info import update_info
from grokscope.store.lock import FolderLock
from grokscope.store.run_writer import FULL, LAYERS, METRICS


def test_metrics_have_the_names_of_the_older_framework_and_the_paths_of_the_newer(finished):
    metrics = Run.open(finished).metrics
    assert {"epoch", "step", "train_loss", "gop_trace", "theory_train_loss"} <= set(metrics)
    assert {"gop/batch/trace", "gop/weight/epoch", "gop/batch/layers/trace"} <= set(metrics)
    assert len(metrics) == len(list(metrics)) == len(dict(metrics))
    assert "index/rows" not in metrics
    with pytest.raises(KeyError, match="nothing"):
        metrics["nothing"]
    assert metrics.get("nothing") is None


def test_metrics_hold_the_rows_written(finished):
    metrics = Run.open(finished).metrics
    np.testing.assert_array_equal(metrics["epoch"], range(300))
    np.testing.assert_array_equal(metrics["step"], 2 * np.arange(300))
    np.testing.assert_array_equal(metrics["step"], metrics["global_step"])
    np.testing.assert_array_equal(metrics["train_loss"], 1 / (1 + np.arange(300)))
    assert np.isnan(metrics["theory_train_loss"]).all()
    assert metrics["gop/batch/layers/trace"].shape == (300, 2)
    assert metrics["eigenvalues_top_k"].shape == (300, 3)


def test_a_running_run_is_followed_and_one_look_is_consistent(synthetic):
    run = Run.open(synthetic.folder)
    assert run.status == "running"
    assert len(run.metrics["epoch"]) == 0
    assert run.grokking().memorised is None
    for epoch in range(4):
        synthetic.write(epoch)
    then = run.metrics
    assert then["epoch"].tolist() == [0, 1, 2, 3]
    synthetic.write(4)
    assert len(then["train_loss"]) == len(then["gop/batch/trace"]) == 4
    assert run.metrics["epoch"].tolist() == [0, 1, 2, 3, 4]
    synthetic.finish()
    assert run.status == "finished"
    assert run.metrics["epoch"].tolist() == [0, 1, 2, 3, 4]


def test_a_killed_run_is_open_and_says_so(live):
    run = Run.open(live)
    assert run.status == "killed"
    assert len(run.metrics["epoch"]) == 40
    assert run.gop(30).shape == (24, 24)
    assert "killed" in repr(run)
    with FolderLock(live):
        assert run.status == "running"


def test_a_run_without_run_json_is_of_unknown_status(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "run.json").unlink()
    assert Run.open(tmp_path / "copy").status == "unknown"
    assert [run.path.name for run in runs(tmp_path)] == ["copy"]


def test_layers_and_epochs_by_kind(finished):
    run = Run.open(str(finished))
    assert run.layers == run.layer_names("weight") == ["embed", "head"]
    np.testing.assert_array_equal(run.epochs(), range(300))
    assert run.epochs("weight").tolist() == [0, 1, 3, 10, 30, 100]
    assert run.epochs("factor").tolist() == [0, 1, 3, 10, 30, 100]


def test_a_spectrum_has_the_measured_eigenvalues_only(finished):
    run = Run.open(finished)
    for kind in ("batch", "weight"):
        for layer in (None, "head"):
            np.testing.assert_allclose(run.spectrum(kind, 10, layer), [3 / 11, 2 / 11])


def explicit(known, epoch, columns=slice(None)):
    rows = known["gradients"](epoch)[:, columns]
    return sum(np.outer(row, row) for row in rows) / len(rows)


@pytest.mark.parametrize("epoch", [0, 3, 100])
def test_a_block_of_the_gop_equals_the_explicit_outer_product(finished, known, epoch):
    gop = Run.open(finished).gop(epoch)
    dense = explicit(known, epoch)
    assert gop.shape == (24, 24)
    np.testing.assert_allclose(gop[2:9, [0, 20]], dense[2:9][:, [0, 20]], rtol=1e-12)
    np.testing.assert_allclose(gop.dense(), dense, rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(gop @ np.arange(24), dense @ np.arange(24), rtol=1e-10)


def test_a_layers_gop_is_a_diagonal_block(finished, known):
    run = Run.open(finished)
    for layer, columns in (("embed", slice(0, 16)), ("head", slice(16, 24))):
        np.testing.assert_allclose(
            run.gop(3, layer=layer).dense(), explicit(known, 3, columns), rtol=1e-12, atol=1e-18
        )


def test_the_weight_gop_is_that_of_the_mean_gradient_matrix(finished, known):
    mean = known["gradients"](3).mean(axis=0)
    for layer, matrix in (("embed", mean[:12].reshape(4, 3)), ("head", mean[16:].reshape(2, 4))):
        gop = Run.open(finished).gop(3, kind="weight", layer=layer)
        np.testing.assert_allclose(gop.dense(), matrix @ matrix.T, rtol=1e-12)


def test_grokking_times_come_from_the_accuracies(finished, live):
    times = Run.open(finished).grokking()
    assert (times.memorised, times.generalised) == (20, 199)
    assert Run.open(finished).grokking(test=0.5).generalised == 138
    assert Run.open(live).grokking().generalised is None


def test_runs_are_found_below_a_folder_in_the_order_of_their_numbers(tmp_path):
    for name in ("b/2026-01-02/10", "b/2026-01-02/9", "b/2026-01-01/0", "a/x", "c"):
        update_info(tmp_path / name, status="finished")
    (tmp_path / "c/checkpoints").mkdir()
    found = [str(run.path.relative_to(tmp_path)) for run in runs(tmp_path)]
    assert found == ["a/x", "b/2026-01-01/0", "b/2026-01-02/9", "b/2026-01-02/10", "c"]
    assert [run.path.name for run in runs(str(tmp_path / "c"))] == ["c"]
    (tmp_path / "empty").mkdir()
    assert runs(tmp_path / "empty") == []


def test_the_configuration_is_plain_values(finished, tmp_path):
    assert Run.open(finished).config == {}
    update_info(tmp_path, status="finished")
    (tmp_path / "config.yaml").write_text("model: {_target_: os.system, rate: 1.0e-3}\n")
    assert Run.open(tmp_path).config == {"model": {"_target_": "os.system", "rate": 1e-3}}


@pytest.mark.refusal
def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run must be a run folder.*no run\.json"):
        Run.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="path must be a folder"):
        runs(tmp_path / "absent")


@pytest.mark.refusal
def test_errors_name_the_epochs_nearby_and_the_layers(finished):
    run = Run.open(finished)
    with pytest.raises(KeyError, match=r"epoch 20 has no factor row.*\[10, 30\]"):
        run.gop(20)
    with pytest.raises(KeyError, match=r"epoch 5000 has no weight row.*\[100\]"):
        run.spectrum("weight", 5000)
    with pytest.raises(KeyError, match=r"epoch -1 has no batch row.*\[0\]"):
        run.spectrum("batch", -1)
    for call in (
        lambda: run.gop(10, layer="tail"),
        lambda: run.gop(10, kind="weight"),
        lambda: run.spectrum("batch", 10, layer="tail"),
    ):
        with pytest.raises(KeyError, match="layer must be one of embed, head, got"):
            call()


@pytest.mark.refusal
def test_kinds_that_were_not_measured_are_refused(finished):
    run = Run.open(finished)
    with pytest.raises(ValueError, match="kind must be one of batch, weight, got 'input'"):
        run.spectrum("input", 10)
    with pytest.raises(ValueError, match="kind must be one of batch, weight, got 'sample'"):
        run.gop(10, kind="sample")


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("name", "ask"), [(FULL, "gop"), (LAYERS, "layers"), (METRICS, "spectrum")]
)
def test_what_a_run_did_not_measure_is_said(finished, tmp_path, name, ask):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    run = Run.open(tmp_path / "copy")
    calls = {
        "gop": lambda: run.gop(0),
        "layers": lambda: run.layers,
        "spectrum": lambda: run.spectrum("batch", 0),
    }
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist: .*did not measure"):
        calls[ask]()
    assert run.grokking().memorised == (None if name == METRICS else 20)


HOSTILE = {
    "a tag": "a: !!python/object/apply:os.system ['touch pwned']",
    "another tag": "!!python/name:os.system",
    "no mapping": "- 1\n- 2",
    "a number": "3",
    "no text": b"\xff\xfe\xff",
    "a bracket too few": "a: [1",
    "too deep": "[" * 3_000,
}


@pytest.mark.refusal
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_is_refused(tmp_path, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    update_info(tmp_path, status="finished")
    content = HOSTILE[case]
    (tmp_path / "config.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(ValueError, match=r"config\.yaml"):
        _ = Run.open(tmp_path).config
    assert not (tmp_path / "pwned").exists()


@pytest.mark.refusal
def test_a_run_json_of_another_kind_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"run\.json must hold a JSON object"):
        _ = Run.open(tmp_path).status


@pytest.mark.refusal
@pytest.mark.parametrize("name", [METRICS, FULL, LAYERS])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_damaged_file_is_named(finished, tmp_path, name, content):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(content)
    run = Run.open(tmp_path / "copy")
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        run.gop(0) if name == FULL else run.metrics


def test_folders_without_end_end_no_search(tmp_path):
    deep = tmp_path
    for _ in range(300):  # names of one letter: a path has at most 4,096
        deep = deep / "d"
        deep.mkdir()
    (deep / "run.json").write_text("{}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        found = runs(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert [run.path for run in found] == [deep]
