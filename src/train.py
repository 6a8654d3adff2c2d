"""Train one experiment: ``python src/train.py experiment=nanda``."""

from pathlib import Path

from grokscope.app.cli import run
from grokscope.app.training import train

if __name__ == "__main__":
    run(train, Path(__file__).resolve().parents[1] / "configs", "train")
