"""Liu et al. 2022, arXiv 2205.10343: cells of the phase diagrams, as in the released data."""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from grokscope import Run
from grokscope.analysis.phases import phase
from replications.claims import Claim, Replication, between

CODE = "ejmichaud/grokking-squared"
ADDITION = ("experiment=liu_effective", "measures=none", "schedule.checkpoint=log 1")
GRID = np.logspace(-5, -2, 10)  # of both learning rates
ROWS = [  # Fig. 6a as released: decoder's rate from 1e-5 up, columns the embedding's
    *("XXXXMMMMXX", "XXXXCGCGGG", "XXMMMCCCCC", "MMMMMMCCCC", "MMMMMMMCCC", "MMMMMMMCCC"),
    *("MMMMMMMMCC", "MMMMMMMMMC", "MMMMMMMMMM", "MMMMMMMMMM"),
]
PLACES = ((0, 0), (0, 6), (1, 8), (3, 3), (3, 6), (3, 9), (6, 6), (6, 9), (9, 3), (9, 9))
CELLS = {f"decoder {row} embedding {column}": (row, column) for row, column in PLACES}
S3 = {  # (weight decay, index of the decoder's rate): letter
    **{(0, index): told for index, told in ((0, "M"), (3, "C"), (6, "C"), (9, "C"))},
    **{(200, index): "X" for index in (0, 6)},
}
PHASES = ("trainer.max_epochs=10000", "callbacks.gop.progress={}", "schedule.metrics=every 50")


def s3_name(weight_decay: int, index: int) -> str:
    return f"S3 decay {weight_decay} decoder {index}"


def agreeing(runs: dict[str, Run], cells: dict[str, str]) -> float:
    """Share of the cells of a phase diagram that have the released letter."""
    return statistics.mean(letter(runs[name]) == told for name, told in cells.items())


def letter(run: Run) -> str:
    series = (run.metrics[name] for name in ("epoch", "train_acc", "test_acc"))
    found = phase(*series, lag=1000, budget=10_000)
    return "X" if found == "confusion" else found[0].upper()


REPLICATIONS = [
    Replication(
        "liu_phases",
        {
            name: (
                *ADDITION,
                *PHASES,
                f"model.optimizer.lr={GRID[row]:.4g}",
                f"model.parameter_settings.embedding.lr={GRID[column]:.4g}",
            )
            for name, (row, column) in CELLS.items()
        }
        | {
            s3_name(weight_decay, index): (
                *("experiment=liu_s3", "measures=none", "schedule.checkpoint=log 1"),
                *PHASES,
                f"model.optimizer.weight_decay={weight_decay}",
                f"model.optimizer.lr={GRID[index]:.4g}",
            )
            for weight_decay, index in S3
        },
        (
            Claim(
                f"share of {len(CELLS)} cells of the phase diagram that have the published phase "
                "(published and first seed here: 58)",
                f"{CODE}, released data of Fig. 6a",
                "1",
                partial(agreeing, cells={name: ROWS[a][b] for name, (a, b) in CELLS.items()}),
                between(0.8, 1),
                "at least 0.8; the released Fig. 6b repeats 10 of its cells, 1 with another phase",
            ),
            Claim(
                f"S3: share of {len(S3)} cells, at weight decay 0 and 200 (published: seed 0)",
                f"{CODE}, released data of Fig. 6d",
                "1",
                partial(agreeing, cells={s3_name(*cell): told for cell, told in S3.items()}),
                between(0.8, 1),
                "at least 0.8",
                "one seed was published; near a border the phase changes with the seed",
            ),
        ),
        seeds=(58, 0, 1),
        minutes=15,
    ),
]
