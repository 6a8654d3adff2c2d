"""Tasks whose samples fit on the device: two tensors a split, sliced there, no worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from grokscope.validation import require_int


@dataclass(frozen=True)
class Split:
    """Samples of one split: ``inputs`` (n, ...) and ``targets`` (n,) classes or (n, c) values."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Split:
        return Split(self.inputs[rows], self.targets[rows])

    def to(self, device: torch.device, dtype: torch.dtype) -> Split:
        """Move both tensors; floating-point ones are cast to ``dtype``, integers stay."""
        return Split(*(_cast(t, device, dtype) for t in (self.inputs, self.targets)))


def _cast(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)


class TensorDataModule(LightningDataModule):
    """A train and a test split held as tensors.

    Subclasses implement :meth:`make_splits`, and may add further splits to :attr:`extra` there,
    such as the samples whose labels are wrong (``model.extra_splits`` records them). Batches are
    slices taken on the device by the training loop; the order of a pass depends on ``seed`` and
    the epoch only, so a resumed run sees the same batches.

    Attributes:
        recorded_train: Training samples of which loss and accuracy are recorded, where all of them
            would take long; None records all.

    Args:
        batch_size: Samples an optimizer step sees; ``None`` is the full training set.
        seed: Seeds the order of the mini-batches.
    """

    train: Split
    test: Split
    recorded_train: Split | None = None

    def __init__(self, batch_size: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if batch_size is not None:
            require_int("batch_size", batch_size)
        self.batch_size = batch_size
        self.extra: dict[str, Split] = {}
        self.seed = require_int("seed", seed, minimum=0)

    def make_splits(self) -> tuple[Split, Split]:
        """Return the train and the test split, on the CPU."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Make the splits once."""
        if not hasattr(self, "train"):
            self.train, self.test = self.make_splits()

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; the last batch may be short."""
        return 1 if self.batch_size is None else -(-len(self.train) // self.batch_size)

    def train_dataloader(self) -> range:
        """The numbers of the calls of ``training_step``; the module slices the batches itself."""
        return range(cast(Any, self.trainer).lightning_module.calls_per_epoch)

    def batch_rows(self, epoch: int) -> Iterator[Tensor]:
        """Row numbers of each mini-batch, in the order of pass ``epoch``."""
        n = len(self.train)
        order = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(n))
        yield from order.to(self.train.inputs.device).split(self.batch_size or n)
