from __future__ import annotations

import io

import pytest
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


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "no"), OSError(28, "full"), ValueError("no")]
)
def test_a_bar_that_cannot_be_shown_stops_no_training(monkeypatch, tmp_path, terminal, error):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    def console(**settings) -> Console:
        return Console(file=Gone(), force_terminal=terminal, **settings)

    monkeypatch.setattr(progress, "Console", console)
    done = trainer(7, [ProgressBar(refresh_seconds=1e-9, line_seconds=1e-9)], tmp_path)
    done.fit(module(), datamodule=data())
    assert done.current_epoch == 7
