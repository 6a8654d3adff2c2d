"""The damaged files behind docs/reliability.md, in their small form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "reliability" / "fuzz.py"
FAILURES = ("other errors", "crashes", "hangs", "memory", "payloads run")


def test_damaged_and_hostile_files_are_read_or_refused(tmp_path) -> None:
    page = tmp_path / "page.md"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", f"--page={page}", f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    found = dict(zip(rows[0], rows[-1], strict=True))
    assert (found["file"], found["cases"]) == ("all", "60")
    assert [found[name] for name in FAILURES] == ["0"] * len(FAILURES)
    assert int(found["refused"]) > int(found["read"]) > 0
