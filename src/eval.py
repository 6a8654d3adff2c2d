"""Evaluate a checkpoint of a run: ``python src/eval.py run=logs/runs/...``."""

from pathlib import Path

from grokscope.processor import make_products_repeatable

if __name__ == "__main__":
    make_products_repeatable()  # before torch is loaded
    from grokscope.app.cli import run
    from grokscope.app.evaluation import evaluate

    run(evaluate, Path(__file__).resolve().parents[1] / "configs", "eval")
