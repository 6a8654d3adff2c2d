"""A random tanh net as teacher."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_int


class TeacherStudentDataModule(TensorDataModule):
    """Gaussian inputs (n, d_in) and the outputs (n, d_out) of a random tanh net, float32.

    Teacher, training inputs and test inputs are drawn one after the other from a generator
    with ``seed``, as in the released notebook: a teacher of ``nn.Linear``'s default draw.

    Args:
        d_in: Input features.
        d_out: Outputs.
        width: Units of the teacher's two hidden layers.
        n_train: Training samples.
        n_test: Test samples.
        batch_size: As in :class:`~grokscope.data.base.TensorDataModule`.
        seed: Seeds everything drawn here.

    Raises:
        ValueError: For a wrong argument.

    Source:
        Liu et al. 2023 (Omnigrok), arXiv:2210.01117, section 3;
        KindXiaoming/Omnigrok:teacher-student/grokking.
    """

    def __init__(
        self,
        d_in: int = 5,
        d_out: int = 5,
        width: int = 100,
        n_train: int = 100,
        n_test: int = 100,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        sizes = {"d_in": d_in, "d_out": d_out, "width": width}
        self.widths = tuple(
            require_int(name, sizes[name], maximum=10_000)
            for name in ("d_in", "width", "width", "d_out")
        )
        self.n_train = require_int("n_train", n_train, maximum=10**7)
        self.n_test = require_int("n_test", n_test, maximum=10**7)

    def make_splits(self) -> tuple[Split, Split]:
        """Draw the teacher, then the inputs of each split."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            layers = [nn.Linear(a, b) for a, b in pairwise(self.widths)]
            inputs = [torch.normal(0, 1, size=(n, self.widths[0])) for n in self._sizes]
            train, test = (Split(x, _outputs(layers, x)) for x in inputs)
        return train, test

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.n_train, self.n_test


def _outputs(layers: list[nn.Linear], x: Tensor) -> Tensor:
    for layer in layers[:-1]:
        x = torch.tanh(layer(x))
    return layers[-1](x)
