"""Train one experiment: ``python src/train.py experiment=nanda``."""

from pathlib import Path

from grokscope.processor import make_products_repeatable

if __name__ == "__main__":
    make_products_repeatable()  # before torch is loaded
    from grokscope.app.cli import run
    from grokscope.app.training import train

    run(train, Path(__file__).resolve().parents[1] / "configs", "train")
