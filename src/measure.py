"""Measure at the checkpoints of a run: ``python src/measure.py run=logs/runs/...``."""

from pathlib import Path

from grokscope.app.cli import run
from grokscope.app.measuring import measure

if __name__ == "__main__":
    run(measure, Path(__file__).resolve().parents[1] / "configs", "measure")
