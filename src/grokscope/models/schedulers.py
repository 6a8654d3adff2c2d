"""Learning-rate schedules."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from grokscope.validation import require_float, require_int


def linear_warmup(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Learning rate times ``min(step / steps, 1)``: the first step has rate 0.

    Nanda et al. 2023 (arXiv 2301.05217) and Power et al. 2022 (arXiv 2201.02177): 10 steps.
    """
    require_int("scheduler.steps", steps)
    return LambdaLR(optimizer, lambda step: min(step / steps, 1.0))


def warmup_cosine(
    optimizer: Optimizer, steps: int, anneal_steps: int, floor: float = 0.1
) -> LambdaLR:
    r"""Linear warm-up from 0 at the first step, then half a cosine down to ``floor``.

    .. math:: f + (1 - f)\,\frac{1 + \cos(\pi t / T)}{2}, \quad t = \min(step - w, T)

    times the learning rate, after ``w`` warm-up steps.

    Args:
        optimizer: Whose rate it is.
        steps: w.
        anneal_steps: T.
        floor: f, share of the learning rate at the end.

    Source:
        openai/grok:grok/training.py, ``_scheduler_lr`` with ``anneal_lr``: 10, 1e5, 0.1; off in
        the paper's runs.
    """
    require_int("scheduler.steps", steps)
    require_int("scheduler.anneal_steps", anneal_steps)
    require_float("scheduler.floor", floor, minimum=0.0, maximum=1.0)

    def factor(step: int) -> float:
        if step <= steps:
            return step / steps
        done = min((step - steps) / anneal_steps, 1.0)
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
