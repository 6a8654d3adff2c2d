"""Pages and figures of runs: ``python src/report.py run=logs/runs/...``."""

from pathlib import Path

from grokscope.app.cli import run
from grokscope.app.reporting import report

if __name__ == "__main__":
    run(report, Path(__file__).resolve().parents[1] / "configs", "report")
