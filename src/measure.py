"""Measure at the checkpoints of a run: ``python src/measure.py run=logs/runs/...``."""

from pathlib import Path

from grokscope.processor import make_products_repeatable

if __name__ == "__main__":
    make_products_repeatable()  # before torch is loaded
    from grokscope.app.cli import run
    from grokscope.app.measuring import measure

    run(measure, Path(__file__).resolve().parents[1] / "configs", "measure")
