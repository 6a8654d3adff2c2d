"""Figures and the summary, drawn and read without torch."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from grokscope.analysis import Run
from grokscope.analysis.figures import draw_curves, draw_gop, save_figures
from grokscope.analysis.summary import summary_rows, summary_table
from grokscope.store.info import update_info


def png_size(path):
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


@pytest.mark.parametrize("which", ["finished", "live"])
def test_figures_are_written_for_finished_and_running_runs(which, request):
    folder = request.getfixturevalue(which)
    saved = save_figures(Run.open(folder))
    assert [path.name for path in saved] == ["curves.png", "gop.png"]
    for path in saved:
        assert png_size(path) == (1040, 832)
        assert path.stat().st_size > 20_000
        path.unlink()


def drawn(folder, draw):
    figure = Figure()
    assert draw(Run.open(folder), figure)
    return figure.axes


@pytest.mark.parametrize("draw", [draw_curves, draw_gop])
def test_both_moments_are_drawn_in_every_panel_and_named_once(finished, draw):
    for axis in drawn(finished, draw):
        points = [line.get_xdata() for line in axis.lines]
        assert [x[0] for x in points if len(x) == 2 and x[0] == x[1]] == [20, 199]
    words = [text.get_text().strip() for axis in drawn(finished, draw) for text in axis.texts]
    assert words == ["memorised 20", "generalised 199"]


def test_curves_hold_the_recorded_values_and_epoch_zero(finished):
    accuracy, loss = drawn(finished, draw_curves)
    metrics = Run.open(finished).metrics
    train = next(line for line in loss.lines if line.get_label() == "train")
    np.testing.assert_array_equal(train.get_ydata(), metrics["train_loss"])
    assert train.get_xdata()[0] == 0.5
    assert (loss.get_yscale(), loss.get_xscale(), accuracy.get_ylabel()) == (
        "log",
        "log",
        "accuracy",
    )


def test_the_gop_figure_names_every_layer_and_rank(finished):
    trace, spectra = drawn(finished, draw_gop)
    names = [text.get_text() for text in trace.get_legend().get_texts()]
    assert names == ["whole network", "embed", "head"]
    ranks = [text.get_text() for text in spectra.get_legend().get_texts()]
    assert ranks == ["λ1", "λ2", "λ3"]
    assert spectra.get_ylabel() == "eigenvalues of the weight GOP"


def test_a_row_that_one_file_lacks_is_no_obstacle(live, synthetic):
    for epoch in range(6):
        synthetic.write(epoch)
    row = synthetic.values("metrics.h5", "gop/batch", 6)  # killed before the layers' row
    synthetic.append("metrics.h5", "gop/batch", 6, row)
    assert len(drawn(synthetic.folder, draw_gop)) == 2


@pytest.mark.parametrize("rows", [0, 1])
def test_there_are_no_figures_of_less_than_two_rows(make, tmp_path, rows):
    folder = make(tmp_path / "short", last=rows, finish=False)
    assert save_figures(Run.open(folder)) == []
    assert dict(summary_rows(Run.open(folder)))["memorised at"].startswith("never")


def test_a_name_that_matplotlib_or_the_terminal_would_interpret_is_text(live):
    update_info(live, name="$\\frac{[/bold]\x1b[31m$_x", wall_seconds="long")
    run = Run.open(live)
    assert len(save_figures(run)) == 2
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_table(run))
    text = console.export_text()
    console.file.close()
    assert "[/bold]" in text
    assert "\x1b" not in text
    assert "? s" in text


def test_the_summary_says_what_happened(finished):
    rows = dict(summary_rows(Run.open(finished)))
    assert rows["memorised at"] == "epoch 20  (train accuracy >= 0.99)"
    assert rows["generalised at"] == "epoch 199  (test accuracy >= 0.99)"
    assert rows["delay"] == "179 epochs  (9.9 times)"
    assert rows["final loss"] == "train 0.003333   test 2"
    assert rows["final accuracy"] == "train 1   test 1"
    assert rows["GOP trace"] == "memorised 0.0476   generalised 0.005   end 0.00333"
    assert rows["wall time"] == "12.3 s, measures 0.5 s of it"
    assert rows["run folder"] == str(finished)


def test_the_summary_says_what_each_measure_took(finished):
    assert "of the measures" not in dict(summary_rows(Run.open(finished)))
    taken = {"batch": 0.3, "weight": 0.1, "\x1b[31m": 0.1, "odd": "long", "endless": 1e400}
    update_info(finished, seconds_by_measure=taken)
    text = dict(summary_rows(Run.open(finished)))["of the measures"]
    assert text.startswith("batch 60%   weight 20%")
    assert "\x1b" not in text
    assert "odd" not in text
    assert "endless" not in text


def test_the_summary_of_a_run_without_rows(tmp_path):
    update_info(tmp_path, status="failed")
    rows = dict(summary_rows(Run.open(tmp_path)))
    assert rows["delay"] == "-"
    assert rows["GOP trace"] == "not measured"
    assert rows["final loss"] == "train -   test -"


WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "pytorch_lightning", "torchmetrics", "hydra", "omegaconf"):
    sys.modules[name] = None
import grokscope
from grokscope.analysis.figures import save_figures
run = grokscope.Run.open(sys.argv[1])
assert len(grokscope.runs(sys.argv[1])) == 1
assert len(run.metrics["train_loss"]) == 40
assert run.gop(10)[:3, 5].shape == (3,)
assert run.spectrum("weight", 10, "head").shape == (2,)
print(len(save_figures(run)))
"""


def test_a_run_is_read_and_drawn_without_torch(live):
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(live)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
