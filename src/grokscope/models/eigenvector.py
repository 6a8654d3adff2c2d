"""Labels that are as easy or as hard for a net's first kernel as one likes."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import torch

from grokscope.data.base import TensorDataModule
from grokscope.measures.kernels import ntk_eigenvector
from grokscope.models.grokking import GrokkingModule
from grokscope.validation import require_int


class EigenvectorModule(GrokkingModule):
    """Replaces the targets by an eigenvector of the net's kernel at initialisation.

    The kernel is the neural tangent kernel of the freshly drawn net on training and test samples
    together; the labels' mean square is one over both. They depend on the net's seed and the
    inputs alone, so a resumed or evaluated run has the same ones.

    Args:
        eigenvector: j; 1 is that of the largest eigenvalue, learned first.
        **settings: As :class:`~grokscope.models.GrokkingModule`.

    Raises:
        ValueError: For an argument out of range, or a net with more than one output.

    Source:
        Kumar et al. 2023, arXiv:2310.06110: j = 1 generalises at once, 70 late, 100 never. That
        the Gram matrix is of both splits is our reading.
    """

    def __init__(self, eigenvector: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.eigenvector = require_int("eigenvector", eigenvector)
        self._fresh = (deepcopy(self.net),)  # in a tuple: no part of the module

    def prepare_data_on_device(self, data: TensorDataModule) -> None:
        """As the parent, with the labels replaced."""
        like = next(self.parameters())
        net = self._fresh[0].to(like.device, like.dtype)
        inputs = torch.cat([data.train.inputs, data.test.inputs]).to(like)
        labels = ntk_eigenvector(net, inputs, self.eigenvector)
        relabelled = copy(data)
        n = len(data.train)
        relabelled.train = replace(data.train, targets=labels[:n])
        relabelled.test = replace(data.test, targets=labels[n:])
        super().prepare_data_on_device(relabelled)
