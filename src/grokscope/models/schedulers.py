"""Learning-rate schedules."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from grokscope.validation import require_int


def linear_warmup(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Learning rate times ``min(step / steps, 1)``: the first step has rate 0.

    Nanda et al. 2023 (arXiv 2301.05217) and Power et al. 2022 (arXiv 2201.02177): 10 steps.
    """
    require_int("scheduler.steps", steps)
    return LambdaLR(optimizer, lambda step: min(step / steps, 1.0))
