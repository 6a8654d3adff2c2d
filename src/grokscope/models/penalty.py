"""An absolute-value penalty on chosen parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from grokscope.models.grokking import GrokkingModule
from grokscope.models.loop import Batch
from grokscope.validation import require_float


class MeanAbsPenaltyModule(GrokkingModule):
    """Adds coefficients times the mean absolute value of parameters to what is minimised.

    The recorded loss is without it, as with ``l2``.

    Args:
        mean_abs: Regular expression of parameter names -> coefficient.
        settings: Those of :class:`GrokkingModule`.

    Raises:
        ValueError: For a negative coefficient, or a pattern without a parameter.

    Source:
        ejmichaud/grokking-squared:toy/Figure5d_permutation.ipynb: 1e-3 times the mean
        absolute value of the embeddings.
    """

    def __init__(self, *, mean_abs: Mapping[str, float], **settings: Any) -> None:
        super().__init__(**settings)
        names = [name for name, _ in self.net.named_parameters()]
        for pattern, weight in mean_abs.items():
            require_float(f"mean_abs.{pattern}", weight, minimum=0.0)
            if not any(re.search(pattern, name) for name in names):
                raise ValueError(
                    f"mean_abs.{pattern} must match a parameter, got {', '.join(names)}."
                )
        self.mean_abs = dict(mean_abs)

    def _objective(self, loss: Tensor, batch: Batch) -> Tensor:
        objective = super()._objective(loss, batch)
        for pattern, weight in self.mean_abs.items():
            for name, parameter in self.net.named_parameters():
                if re.search(pattern, name):
                    objective = objective + weight * parameter.abs().mean()
        return objective
