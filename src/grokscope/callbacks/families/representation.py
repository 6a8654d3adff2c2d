"""Progress measures of the toy of representation learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from lightning import LightningModule

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.representation import (
    effective_loss,
    embedding_entropy,
    equations,
    ideal,
    parallelograms,
    predicted_correct,
    real,
    within,
)


class Representation(ProgressMeasure):
    """What the embeddings of an ``EmbeddingDecoder`` look like (Liu et al. 2022).

    Columns: ``rqi``; ``accuracy`` over all samples and ``predicted_accuracy``, which the
    representation's parallelograms give; ``ideal_accuracy`` and ``ideal_rqi``, the upper
    bounds that the training set gives; ``entropy`` and ``effective_dimension`` of the embeddings;
    ``effective_loss`` (NaN for matrix embeddings); ``embeddings`` (p, d) themselves.

    Args:
        schedule: When.
        threshold: Of a parallelogram; None is 0.01 for sums, 0.5 for products.
    """

    def __init__(self, schedule: Any = "log 20", threshold: float | None = None) -> None:
        super().__init__(schedule)
        self.threshold = threshold

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """Single numbers, and the embeddings."""
        scalars = (
            *("rqi", "accuracy", "predicted_accuracy", "ideal_rqi", "ideal_accuracy"),
            *("entropy", "effective_dimension", "effective_loss"),
        )
        table = cast(Any, module).net.embedding.weight
        return {**dict.fromkeys(scalars, ()), "embeddings": tuple(table.shape)}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present embeddings."""
        of = cast(Any, module)
        pairs, rows = of.data.pairs.numpy(), of.data.train_rows.numpy()
        table = of.net.embedding.weight.detach().double().cpu().numpy()
        found, add = parallelograms(of.data.answers.numpy()), of.net.combine == "add"
        has = real(table, pairs, found, combine=of.net.combine, threshold=self.threshold)
        entropy = embedding_entropy(table)
        measured = {
            "rqi": has.mean(),
            "accuracy": _accuracy(of),
            "predicted_accuracy": predicted_correct(found, has, rows, len(pairs)).mean(),
            "entropy": entropy,
            "effective_dimension": np.exp(entropy),
            "embeddings": table,
        }
        bounds = dict.fromkeys(("ideal_rqi", "ideal_accuracy", "effective_loss"), np.nan)
        if add:
            matrix = equations(pairs, found, len(table))
            inside = within(found, rows, len(pairs))
            best = ideal(matrix, inside)
            reached = predicted_correct(found, best, rows, len(pairs))
            values = (best.mean(), reached.mean(), effective_loss(table, matrix[inside]))
            bounds = dict(zip(bounds, values, strict=True))
        return measured | bounds


def _accuracy(module: Any) -> float:
    """Over training and test samples together."""
    sizes = len(module.train_batch.split), len(module.test_batch.split)
    scores = [module.evaluate(batch)[1] for batch in (module.train_batch, module.test_batch)]
    return float(np.average(scores, weights=sizes))
