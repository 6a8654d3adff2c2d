"""Levi, Beck, Bar-Sinai 2023, arXiv 2310.16441: gradient descent against the exact theory."""

from __future__ import annotations

from functools import partial

import numpy as np

from grokscope import Run
from replications.claims import Claim, Replication

SETTINGS = {
    "ratio 0.9": ("experiment=levi", "trainer.max_epochs=25000"),
    "ratio 1.5": ("experiment=levi", "data.ratio=1.5", "trainer.max_epochs=5000"),
    "50 outputs": ("experiment=levi", "data.d_out=50", "trainer.max_epochs=5000"),
    "weight decay": (
        "experiment=levi",
        "model.optimizer.weight_decay=0.001",
        "trainer.max_epochs=5000",
    ),
}


def furthest(runs: dict[str, Run], run: str, split: str) -> float:
    metrics = runs[run].metrics
    found, theory = metrics[f"{split}_loss"], metrics[f"theory_{split}_loss"]
    return float(np.max(np.abs(found / theory - 1)))


REPLICATIONS = [
    Replication(
        "levi",
        SETTINGS,
        tuple(
            Claim(
                f"{name}: {split} loss, largest relative distance from the theory",
                "eqs. 3-5, with the data's own covariance",
                "0",
                partial(furthest, run=name, split=split),
                lambda value: value <= 1e-6,
                "<= 1e-6",
            )
            for name in SETTINGS
            for split in ("train", "test")
        ),
        minutes=6,
    )
]
