from __future__ import annotations

import io

from rich.console import Console
from small import data, module, trainer

from grokscope.callbacks import GOPCallback, ProgressBar, progress


def fit(monkeypatch, tmp_path, terminal: bool) -> str:
    out = io.StringIO()
    made = Console(file=out, force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "Console", lambda: made)
    bar = ProgressBar(refresh_seconds=1e-6, line_seconds=1e-6)
    done = trainer(40, [GOPCallback(output_dir=tmp_path), bar])
    done.fit(module(), datamodule=data())
    return out.getvalue()


def test_the_bar_fits_80_columns_with_everything_in_it(monkeypatch, tmp_path) -> None:
    text = fit(monkeypatch, tmp_path, terminal=True)
    assert "epoch 40/40" in text
    assert "ETA" in text
    assert "train 0." in text
    assert "…" not in text


def test_where_there_is_no_terminal_it_prints_lines(monkeypatch, tmp_path) -> None:
    lines = fit(monkeypatch, tmp_path, terminal=False).splitlines()
    assert lines[-1].startswith("epoch 40/40  ETA 0:00  train 0.")
