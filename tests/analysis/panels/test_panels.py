"""Panels hold the run's own numbers, whatever the run has measured."""

from __future__ import annotations

import numpy as np
import pytest

from grokscope.analysis.panels import Lines, Matrices, Spectrum, panels
from grokscope.analysis.panels.captions import METRICS
from grokscope.analysis.panels.source import LONGEST
from grokscope.analysis.run import Run
from grokscope.callbacks.rows import CLOCK, LOSSES, global_table, layer_table, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.layout import Column, Table
from grokscope.store.run_writer import LAYERS
from grokscope.store.run_writer import METRICS as FILE

NAMES = ("embed", "head", "out")
GROUPS = {
    "plain": ({"one": (), "row": (5,), "square": (4, 4), "deep": (2, 2, 2)}, {}),
    "named": ({"by_layer": (3,), "between": (3, 3), "row": (5,)}, {"layers": list(NAMES)}),
    "classes": ({"confusion": (4, 4), "margin": (4,)}, {}),
    "hessian": ({"top_eigenvalue": (), "residual": ()}, {}),
}
WIDTH = 3


def tables(groups=GROUPS, extra=("theory_train_loss", "norm")):
    found = [(root_table(extra, WIDTH), 50), (global_table("batch", WIDTH), 50)]
    for name, (shapes, attributes) in groups.items():
        columns = dict(CLOCK) | {n: Column(shape) for n, shape in shapes.items()}
        found.append((Table(name, columns, attributes), 50))
    return {FILE: found, LAYERS: [(layer_table("batch", NAMES, WIDTH), 50)]}


def write(folder, rows=20, made=None, finish=True):
    """Numbers that differ in every place, at uneven epochs; some are missing."""
    made = tables() if made is None else made
    writer = RunWriter(folder, made)
    generator = np.random.default_rng(0)
    for number in range(rows):
        for file, found in made.items():
            for table, _ in found:
                row = {n: generator.random(c.shape) + 0.1 for n, c in table.columns.items()}
                row |= {"train_acc": np.nan} if number % 3 == 1 and table.path == "" else {}
                clock = {name: number**2 for name in ("epoch", "step", "global_step")}
                row |= {name: value for name, value in clock.items() if name in row}
                writer.append(file, table.path, row)
    writer.finalise() if finish else writer.close()
    update_info(folder, status="finished", name="made")
    return Run.open(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("panels") / "run")


def found(run):
    return {panel.key: panel for panel in panels(run)}


def choice(run, key, name):
    return {each.name: each for each in found(run)[key].choices}[name]


def assert_curve(series, epochs, values):
    known = np.isfinite(values)
    np.testing.assert_array_equal(series.epochs, epochs[known])
    np.testing.assert_array_equal(series.values, values[known])


def test_losses_and_accuracies_are_the_run_s(run):
    metrics = run.metrics
    for key, kind in (("loss", "loss"), ("accuracy", "acc")):
        (lines,) = found(run)[key].choices
        assert lines.log is (key == "loss")
        for split in ("train", "test"):
            (series,) = [s for s in lines.series if s.name == split]
            assert (series.role, series.theory) == (split, False)
            assert_curve(series, metrics["epoch"], metrics[f"{split}_{kind}"])


def test_theory_is_drawn_beside_the_loss_that_it_predicts(run):
    (lines,) = found(run)["loss"].choices
    theory = [s for s in lines.series if s.theory]
    assert [(s.name, s.role) for s in theory] == [("train, theory", "train")]
    assert_curve(theory[0], run.metrics["epoch"], run.metrics["theory_train_loss"])


def test_every_metric_of_a_kind_is_a_choice_with_whole_and_layers(run):
    metrics, panel = run.metrics, found(run)["gop_batch"]
    names = [lines.name for lines in panel.choices]
    assert len(names) == len(set(names))
    assert "eigenvalues top k" not in names
    for name, (unit, log) in METRICS.items():
        if name == "grad_share" or f"gop/batch/{name}" not in metrics:
            continue
        lines = choice(run, "gop_batch", name.replace("_", " "))
        assert (lines.unit, lines.log) == (unit, log)
        whole, *layers = lines.series
        assert (whole.name, whole.role) == ("whole", "whole")
        assert_curve(whole, metrics["gop/batch/epoch"], metrics[f"gop/batch/{name}"])
        if f"gop/batch/layers/{name}" in metrics:
            values = metrics[f"gop/batch/layers/{name}"]
            assert [s.name for s in layers] == list(NAMES)
            for i, series in enumerate(layers):
                assert_curve(series, metrics["gop/batch/layers/epoch"], values[:, i])


def test_shares_of_the_layers_stand_alone(run):
    (lines,) = found(run)["layer_shares"].choices
    values = run.metrics["gop/batch/layers/grad_share"]
    for i, series in enumerate(lines.series):
        assert (series.name, series.role) == (NAMES[i], "part")
        assert_curve(series, run.metrics["gop/batch/layers/epoch"], values[:, i])


def test_spectra_are_the_run_s(run):
    panel = found(run)["spectrum_batch"]
    assert [s.name for s in panel.choices] == ["whole", *NAMES]
    for spectrum in panel.choices:
        assert isinstance(spectrum, Spectrum)
        layer = None if spectrum.name == "whole" else spectrum.name
        for epoch, values in zip(spectrum.epochs, spectrum.values, strict=True):
            np.testing.assert_array_equal(values, run.spectrum("batch", epoch, layer))


def test_groups_are_drawn_by_the_shape_of_their_columns(run):
    metrics = run.metrics
    epochs = metrics["plain/epoch"]
    lines = choice(run, "plain", "one")
    assert_curve(lines.series[0], epochs, metrics["plain/one"])
    spectrum = choice(run, "plain_by_order", "row")
    np.testing.assert_array_equal(spectrum.values, metrics["plain/row"])
    matrices = choice(run, "plain_matrices", "square")
    assert isinstance(matrices, Matrices)
    np.testing.assert_array_equal(matrices.values, metrics["plain/square"])
    assert matrices.rows == matrices.columns == ("1", "2", "3", "4")
    assert "deep" not in {c.name for p in panels(run) for c in p.choices}


def test_columns_of_named_parts_are_curves_with_those_names(run):
    lines = choice(run, "named", "by_layer")
    assert isinstance(lines, Lines)
    assert tuple(s.name for s in lines.series) == NAMES
    values = run.metrics["named/by_layer"]
    for i, series in enumerate(lines.series):
        assert_curve(series, run.metrics["named/epoch"], values[:, i])
    matrices = choice(run, "named_matrices", "between")
    assert matrices.rows == matrices.columns == NAMES
    assert isinstance(choice(run, "named_by_order", "row"), Spectrum)


def test_classes_of_a_confusion_matrix_count_from_0(run):
    assert choice(run, "classes_matrices", "confusion").rows == ("0", "1", "2", "3")


def test_curves_that_belong_together_share_a_picture(run):
    lines = choice(run, "hessian", "largest eigenvalue")
    assert [s.name for s in lines.series] == ["top_eigenvalue", "residual"]


def test_every_column_of_the_run_is_shown_somewhere(run):
    shown = {c.name.replace(" ", "_") for p in panels(run) for c in p.choices}
    shown |= {
        s.name for p in panels(run) for c in p.choices if isinstance(c, Lines) for s in c.series
    }
    for group, (columns, _) in GROUPS.items():
        assert set(columns) - {"deep"} <= shown, group
    assert "norm" in shown


def test_keys_and_names_are_unique_and_captions_are_there(run):
    keys = [panel.key for panel in panels(run)]
    assert len(keys) == len(set(keys))
    for panel in panels(run):
        assert panel.caption
        assert panel.title
        assert panel.section
        assert len({type(each) for each in panel.choices}) == 1
        names = [each.name for each in panel.choices]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("group", ["loss", "accuracy", "gop_batch", "task", "plain_matrices"])
def test_a_progress_measure_may_have_the_name_of_a_panel(tmp_path, group):
    groups = {group: ({"one": ()}, {}), "plain": ({"square": (2, 2)}, {})}
    run = write(tmp_path / "run", made=tables(groups))
    keys = [panel.key for panel in panels(run)]
    assert len(keys) == len(set(keys))
    values = run.metrics[f"{group}/one"]
    curves = [s for p in panels(run) for c in p.choices if isinstance(c, Lines) for s in c.series]
    assert any(np.array_equal(s.values, values) for s in curves)


def test_a_long_curve_is_thinned_and_keeps_its_spike(tmp_path):
    run = RunWriter(tmp_path / "run", {FILE: [(root_table((), 0), 5000)]})
    rows = {name: np.full(5000, 0.5) for name in LOSSES} | {"epoch": np.arange(5000)}
    rows["test_loss"][1234] = 99.0
    run.extend(FILE, "", rows | {"global_step": np.arange(5000)})
    run.finalise()
    lines = panels(Run.open(tmp_path / "run"), points=100)[0].choices[0]
    series = {s.name: s for s in lines.series}["test"]
    assert len(series.epochs) <= 100
    assert series.epochs[np.argmax(series.values)] == 1234


def test_frames_of_a_spectrum_are_limited(run):
    for panel in panels(run, frames=8):
        for each in panel.choices:
            if not isinstance(each, Lines):
                assert len(each.epochs) <= 8
                assert (each.epochs[0], each.epochs[-1]) == (0, 19**2)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_runs_with_hardly_a_row_have_the_panels_that_they_can(tmp_path, rows):
    drawn = found(write(tmp_path / "run", rows, finish=False))
    if rows == 0:
        assert drawn == {}
    else:
        assert {"loss", "accuracy", "gop_batch", "spectrum_batch", "plain"} <= set(drawn)
        assert len(drawn["loss"].choices[0].series[0].epochs) == rows


def test_a_run_with_only_losses_has_only_their_panels(tmp_path):
    made = {FILE: [(root_table((), 0), 5)]}
    assert list(found(write(tmp_path / "run", 3, made))) == ["loss", "accuracy"]


def test_a_run_with_only_its_description_has_no_panel(tmp_path):
    update_info(tmp_path, status="running")
    assert panels(Run.open(tmp_path)) == []


def test_nothing_finite_is_no_curve(tmp_path):
    writer = RunWriter(tmp_path / "run", {FILE: [(root_table((), 0), 5)]})
    row = dict.fromkeys(LOSSES, np.nan) | {"test_loss": np.inf, "train_acc": 0.5}
    writer.append(FILE, "", row | {"epoch": 0, "global_step": 0})
    writer.close()
    drawn = found(Run.open(tmp_path / "run"))
    assert list(drawn) == ["accuracy"]
    assert [s.name for s in drawn["accuracy"].choices[0].series] == ["train"]


def test_names_are_printable_and_short(tmp_path):
    name, group = "a\u202eb" * 100, "g\u202e" * 60
    groups = {group: ({name: (2,)}, {"layers": [name, "x" * 500]})}
    run = write(tmp_path / "run", 3, tables(groups, extra=(name,)))
    texts = []
    for panel in panels(run):
        texts += [panel.key, panel.title]
        for each in panel.choices:
            texts.append(each.name)
            texts += [s.name for s in each.series] if isinstance(each, Lines) else []
    assert [t for t in texts if not t.isprintable()] == []
    assert max(map(len, texts)) <= 2 * LONGEST


def test_panels_of_a_running_run_are_those_of_its_rows(tmp_path):
    made = tables()
    writer = RunWriter(tmp_path / "run", made)
    for number in (3, 8):
        for file, tables_of in made.items():
            for table, _ in tables_of:
                row = {n: np.ones(c.shape) for n, c in table.columns.items()}
                row |= {n: number for n in ("epoch", "step", "global_step") if n in row}
                writer.append(file, table.path, row)
        drawn = found(Run.open(tmp_path / "run"))
        assert drawn["loss"].choices[0].series[0].epochs[-1] == number
        assert drawn["spectrum_batch"].choices[0].epochs[-1] == number
    writer.close()


@pytest.mark.refusal
def test_layers_without_names_are_an_error_that_names_the_file(tmp_path):
    made = tables()
    table, rows = made[LAYERS][0]
    made[LAYERS] = [(Table(table.path, table.columns, {}), rows)]
    run = write(tmp_path / "run", 3, made, finish=False)
    with pytest.raises(ValueError, match=r"gop_layers\.h5 cannot be read: table batch names no"):
        panels(run)
