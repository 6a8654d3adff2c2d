"""Evaluate a checkpoint of a run: ``python src/eval.py run=logs/runs/...``."""

from pathlib import Path

from grokscope.app.cli import run
from grokscope.app.evaluation import evaluate

if __name__ == "__main__":
    run(evaluate, Path(__file__).resolve().parents[1] / "configs", "eval")
