"""Compiled loops run wherever their machine code can, or cannot, be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from grokscope.measures import compilation
from grokscope.measures.compilation import compiled

SOURCE = """
from grokscope.measures.compilation import compiled

def twice(x):
    return 2 * x

for _ in range(2):
    assert compiled(twice)(3) == 6
"""


def total(values):
    found = 0.0
    for value in values:
        found += value
    return found


def test_a_cache_that_fails_costs_the_cache_alone(monkeypatch, caplog):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", fail)
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "load", fail)
    monkeypatch.setattr(compilation, "_told", [])
    assert compiled(total)((1.0, 2.0)) == 3.0
    assert caplog.text.count("are not kept on disk") == 1


def test_a_cache_that_a_power_cut_emptied_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled(total)((1.0, 2.0)) == 3.0
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"")
    monkeypatch.setattr(compilation, "_told", [])
    assert compiled(total)((1.0, 2.0)) == 3.0


def test_without_a_place_for_a_cache_it_is_said_once(tmp_path):
    (tmp_path / "code.py").write_text(SOURCE)
    (tmp_path / "__pycache__").touch()  # nobody can make the folder, not even root
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, tmp_path / "code.py"],
        env=environment | {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
        cwd=Path(compilation.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("NUMBA_CACHE_DIR names a folder for them") == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("home", ["/nonexistent", None])
def test_a_process_without_a_home_imports(tmp_path, home):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    environment |= {} if home is None else {"HOME": home}
    environment |= {"TMPDIR": "/proc", "MPLCONFIGDIR": "/proc", "TORCHINDUCTOR_CACHE_DIR": "/proc"}
    done = subprocess.run(
        [sys.executable, "-c", "from grokscope import GOPCallback"],
        env=environment,
        cwd="/proc",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
