"""The environment of the other libraries: made once, made again when what it holds changes.

python scripts/benchmark/peers/environment.py [folder]
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".bench-venv"
PEERS = Path(__file__).with_name("requirements.txt")
SOURCES = (PEERS, ROOT / "constraints.txt", ROOT / "pyproject.toml")


def ensure(folder: Path = FOLDER) -> Path:
    """The interpreter of the environment in ``folder``, with grokscope itself installed there.

    Raises:
        subprocess.CalledProcessError: If pip fails; its message is on stderr.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / ".installed"
    wanted = hashlib.sha256(b"".join(s.read_bytes() for s in SOURCES)).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making {folder} (a minute) ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    ours = ["--constraint", ROOT / "constraints.txt", "--editable", ROOT, "pytest"]
    subprocess.run([*pip, *ours], check=True)
    subprocess.run([*pip, "--no-deps", "--requirement", PEERS], check=True)
    stamp.write_text(wanted)
    return python


def enter(folder: Path) -> None:
    """Go on in the environment of ``folder``: this script again, with the same arguments."""
    if Path(sys.prefix).resolve() != folder.resolve():
        python = ensure(folder)
        sys.stdout.flush()
        raise SystemExit(subprocess.run([python, *sys.argv], check=False).returncode)


if __name__ == "__main__":
    print(ensure(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
