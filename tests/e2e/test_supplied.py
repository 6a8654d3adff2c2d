"""Experiments on files that a user supplies: without them one line says which and where from."""

from __future__ import annotations

from pathlib import Path

import pytest
from entry import call


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("name", "file", "source"),
    [
        ("omnigrok_imdb", "IMDB Dataset.csv", "kaggle.com"),
        ("omnigrok_qm9", "uncharacterized.txt", "figshare.com"),
    ],
)
def test_a_missing_file_is_one_line(name, file, source, tmp_path: Path, capsys) -> None:
    folders = [f"paths.data_dir={tmp_path / 'none'}", f"paths.log_dir={tmp_path / 'logs'}"]
    with pytest.raises(SystemExit) as stop:
        call("train", f"experiment={name}", *folders)
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: paths.data_dir must hold the file")
    assert file in line
    assert source in line
    assert not (tmp_path / "logs").exists()
