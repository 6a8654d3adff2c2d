"""Per-sample gradients of all processes of a distributed run."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, distributed

from grokscope.gradients.factors import Factors, Forms
from grokscope.gradients.forms import Form


def gather(factors: Factors) -> Factors:
    """The factors of every process's samples, on every process; by rank, then by sample.

    All processes of the default group must call it. What travels is the layer factors, not A.
    Without a distributed run, ``factors`` itself.

    Raises:
        ValueError: If the factors are not kept; ``max_bytes`` must have room for them.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return factors
    if not factors.resident:
        raise ValueError("max_bytes must have room for the factors of all samples of a process.")
    mine = [[_moved(form, "cpu") for form in forms] for forms in factors.chunks()]
    found: list[list[Forms] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return Factors(_Gathered(factors, [chunk for part in found if part for chunk in part]))


class _Gathered:
    """Chunks that are there already."""

    def __init__(self, own: Factors, chunks: list[Forms]) -> None:
        source = own.source
        self.network, self.unstructured = source.network, source.unstructured
        self.rows_a_sample, self.max_bytes = source.rows_a_sample, 2**62
        self._chunks, self.slices, start = {}, [], 0
        for chunk in chunks:
            rows = next(len(form) for form in chunk if form is not None)
            count = rows // self.rows_a_sample
            self.slices.append(slice(start, start + count))
            self._chunks[start] = chunk
            start += count

    def forms(self, rows: slice) -> Forms:
        device = self.network.parameters[0].device
        return [_moved(form, device) for form in self._chunks[rows.start]]


def _moved(form: Form | None, device: str | torch.device) -> Form | None:
    if form is None:
        return None
    values = {field.name: getattr(form, field.name) for field in fields(form)}
    moved: dict[str, Any] = {n: v.to(device) for n, v in values.items() if isinstance(v, Tensor)}
    return replace(form, **moved)
