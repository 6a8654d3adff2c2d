"""Phase diagrams: which settings span them, and the times of their cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grokscope import Run
from grokscope.analysis.comparison.grouping import RunGroup, RunGroups, run_groups
from grokscope.analysis.comparison.phase_diagram import phase_diagram, swept_keys

EPOCHS = np.arange(0, 5001, 50)
NEVER = 10**9


def curve(at):
    return np.where(at <= EPOCHS, 1.0, 0.2)


@pytest.fixture
def sweep(write, tmp_path):
    """Runs by lr, width, and the epochs of memorising and generalising."""

    def make(*cells):
        for number, (lr, width, train_at, test_at) in enumerate(cells):
            config = {"seed": number, "net": {"width": width}, "model": {"optimizer": {"lr": lr}}}
            curves = {"train_acc": curve(train_at), "test_acc": curve(test_at)}
            write(tmp_path / f"{number:02}", config, EPOCHS, curves)
        return [Run.open(path) for path in sorted(tmp_path.iterdir())]

    return make


def test_each_cell_has_its_phase_and_the_medians_of_its_times(sweep):
    found = phase_diagram(
        sweep(
            (0.1, 8, 100, 200),
            (0.1, 8, 100, 400),
            (0.1, 8, 150, NEVER),
            (0.1, 16, 100, 3000),
            (0.1, 16, 100, NEVER),
            (0.2, 8, NEVER, NEVER),
            (0.2, 16, 100, 3000),
            (0.2, 16, 500, 3200),
            (0.2, 32, NEVER, 50),
        )
    )
    assert found.table.names == ("net.width", "model.optimizer.lr")
    assert found.table.x.tolist() == [8, 16, 32]
    assert found.table.y.tolist() == [0.1, 0.2]
    assert found.table.letters() == ["XGX", "CG."]
    nan, inf = math.nan, math.inf
    np.testing.assert_array_equal(found.generalised, [[400, inf, nan], [inf, 3100, 50]])
    np.testing.assert_array_equal(found.delay, [[300, inf, nan], [nan, 2800, nan]])
    assert found.counts.tolist() == [[3, 2, 0], [1, 2, 1]]


def test_axes_and_thresholds_can_be_chosen(sweep):
    runs = sweep((0.1, 8, 100, 200), (0.2, 16, 100, 3000))
    found = phase_diagram(runs, "model.optimizer.lr", "net.width", train=0.1, test=0.15, lag=5)
    assert found.table.names == ("model.optimizer.lr", "net.width")
    assert found.table.letters() == [".C", "C."]
    assert np.nanmax(found.generalised) == 0


def keys_of(**columns):
    """What is chosen for groups with these settings."""
    names = tuple(name.replace("__", ".") for name in columns)
    groups = (
        RunGroup("", dict(zip(names, row, strict=True)), ())
        for row in zip(*columns.values(), strict=True)
    )
    return swept_keys(RunGroups(names, tuple(groups)))


def test_settings_that_follow_from_another_span_nothing():
    moduli = [23, 23, 31, 31]
    found = keys_of(
        data__modulus=moduli, net__d_out=moduli, net__name="abab", model__lr=[1, 2, 1, 2]
    )
    assert found == ("data.modulus", "model.lr")


def test_settings_that_span_the_most_cells_are_chosen_and_of_equals_the_first():
    assert keys_of(net__a=[0, 0, 1, 1], net__b=[0, 1, 0, 1], net__c=[0, 1, 1, 0]) == (
        "net.a",
        "net.b",
    )
    few, more, most = [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0], [0, 1, 0, 1, 2, 3]
    assert keys_of(net__a=few, net__b=more) == ("net.a", "net.b")
    assert keys_of(net__a=few, net__b=more, net__c=most) == ("net.b", "net.c")


def test_how_long_a_run_lasts_is_no_axis():
    lengths = [1, 2, 1, 2]
    found = keys_of(trainer__max_epochs=lengths, net__a=[1, 1, 2, 2], net__b=[1, 2, 1, 2])
    assert found == ("net.a", "net.b")


@pytest.mark.refusal
def test_what_cannot_be_is_refused(sweep):
    message = "differ in two settings of the task, net or model that are numbers"
    runs = sweep((0.1, 8, 100, 200), (0.2, 8, 100, 200))
    with pytest.raises(ValueError, match=rf"{message} .*got model\.optimizer\.lr\."):
        phase_diagram(runs)
    with pytest.raises(ValueError, match=rf"{message} .*got none\."):
        swept_keys(run_groups(runs[:1]))
    with pytest.raises(ValueError, match="x and y must be both given or both left to choose"):
        phase_diagram(runs, "net.width")
    with pytest.raises(ValueError, match=r"net\.depth must be a number in the settings of"):
        phase_diagram(runs, "net.width", "net.depth")
    with pytest.raises(ValueError, match="runs must hold at least one run"):
        phase_diagram([])
