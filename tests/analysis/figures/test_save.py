"""Panels as files."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from grokscope.analysis import GrokkingTimes, Run
from grokscope.analysis.figures import save_panels
from grokscope.analysis.panels import panels
from grokscope.analysis.panels.model import Lines, Matrices, Panel, Series, Spectrum

EPOCHS = np.array([0.0, 1, 3, 10, 30, 100, 300])
SPECTRUM = Spectrum("whole", "eigenvalue", "rank", EPOCHS, 1 / (1 + np.outer(EPOCHS, [1, 2, 3])))
MATRICES = Matrices("shares", "share", ("a", "b"), ("c", "d"), EPOCHS, np.ones((7, 2, 2)))


def decay(name, role="train"):
    return Series(name, EPOCHS, 1 / (1 + EPOCHS), role if name != "test" else "test")


def lines(*series):
    return Lines("a", "loss (nats)", series, log=True)


def panel(*choices, key="a_panel"):
    return Panel(key, "Section", "A panel", "What one sees.", choices)


ALL = [
    panel(lines(decay("train"), decay("test")), key="loss"),
    panel(SPECTRUM, SPECTRUM, key="spectrum"),
    panel(MATRICES, key="confusion"),
]


def test_each_panel_becomes_a_pdf_and_a_png_of_the_column(tmp_path):
    saved = save_panels(
        ALL, tmp_path / "new", times=GrokkingTimes(20, 200, 0.99, 0.99, 0), width="single"
    )
    names = [
        f"{key}.{kind}" for key in ("loss", "spectrum", "confusion") for kind in ("pdf", "png")
    ]
    assert [path.name for path in saved] == names
    for path in saved:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width == 1020  # 3.4 inches at 300 dots
        else:
            content = path.read_bytes()
            assert content.startswith(b"%PDF")
            assert re.search(rb"/MediaBox \[ 0 0 244\.8 ", content)
            assert b"/FontFile2" in content  # TrueType
            assert b"/Type3" not in content
            assert b"CreationDate" not in content


def test_a_long_legend_takes_no_room_from_the_axes(tmp_path):
    few, many = (
        panel(lines(*(decay("x" * 500, "part") for i in range(count))), key=f"n{count}")
        for count in (1, 12)
    )
    heights = []
    for path in save_panels([few, many], tmp_path, ("png",), width="single"):
        with Image.open(path) as image:
            heights.append(image.height)
    assert heights[1] - heights[0] > 11 * 0.1 * 300  # a tenth of an inch for each further line


SAVE = """
import sys
import numpy as np
from grokscope.analysis.figures import save_panels
from grokscope.analysis.panels.model import Lines, Panel, Series
x = np.arange(50.0)
lines = Lines("a", "loss", (Series("train", x, 1 / (1 + x), "train"), Series("b", x, x)))
save_panels([Panel("loss", "s", "Loss", "c", (lines,))], sys.argv[1])
"""


def test_files_are_the_same_byte_by_byte_in_another_process(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr(sys, "argv", ["", str(here)])
    exec(SAVE, {})
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "99999999"}
    command = [sys.executable, "-W", "error", "-c", SAVE, str(there)]
    subprocess.run(command, check=True, env=environment)
    for name in ("loss.pdf", "loss.png"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_one_format_alone_and_a_panel_without_choices(tmp_path):
    assert [p.name for p in save_panels(ALL[:1], tmp_path, ("png",))] == ["loss.png"]
    assert save_panels([panel()], tmp_path) == []


def test_panels_of_a_run_are_saved(finished, tmp_path):
    run = Run.open(finished)
    found = panels(run)
    saved = save_panels(found, tmp_path, ("png",), times=run.grokking_as_configured())
    assert [path.stem for path in saved] == [each.key for each in found]


@pytest.mark.refusal
@pytest.mark.parametrize("key", ["../up", "a/b", ".hidden", "", "a.b", "null\0", "x" * 101, "a\n"])
def test_keys_that_are_no_plain_file_names_are_refused_before_writing(key, tmp_path):
    with pytest.raises(ValueError, match="keys of panels must be plain file names"):
        save_panels([*ALL, panel(lines(decay("x")), key=key)], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.refusal
def test_keys_that_repeat_and_other_formats_and_widths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keys of panels must differ"):
        save_panels([panel(key="a"), panel(key="A")], tmp_path)
    with pytest.raises(ValueError, match="format must be one of pdf, png, got 'svg'"):
        save_panels(ALL, tmp_path, ("svg",))
    with pytest.raises(ValueError, match="width must be one of single, double, got 'triple'"):
        save_panels(ALL, tmp_path, width="triple")


def test_drafts_of_killed_processes_are_removed_once_nobody_can_be_at_them(tmp_path):
    old, young = (tmp_path / f".loss.{kind}.1-0123abcd.part" for kind in ("pdf", "png"))
    for path in (old, young):
        path.write_bytes(b"half a figure")
    os.utime(old, (0, 0))
    save_panels([], tmp_path)
    assert not old.exists()
    assert young.exists()
