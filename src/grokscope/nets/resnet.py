"""The residual net without normalisation of Humayun et al. 2024."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokscope.nets.initialise import empty_linear, private_generator, torch_default_
from grokscope.validation import require_int

CHUNK = 2048  # images at once where no gradient is wanted


class PreActivationBlock(nn.Module):
    """Two 3 x 3 convolutions, each after a ReLU, and a shortcut.

    ``before_1`` and ``before_2`` pass on what the ReLUs get, so that hooks can read it: they stand
    where the published net has batch norm, or nothing.
    """

    def __init__(self, d_in: int, d_out: int, stride: int) -> None:
        super().__init__()
        self.before_1, self.before_2 = nn.Identity(), nn.Identity()
        self.conv_1 = _convolution(d_in, d_out, 3, stride)
        self.conv_2 = _convolution(d_out, d_out, 3, 1)
        changed = stride != 1 or d_in != d_out
        self.shortcut = _convolution(d_in, d_out, 1, stride) if changed else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, d_in, h, w) to (n, d_out, h / stride, w / stride)."""
        active = torch.relu(self.before_1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        found = self.conv_2(torch.relu(self.before_2(self.conv_1(active))))
        return found + shortcut


class PreActivationResNet(nn.Module):
    """Pre-activation ResNet-18 for 32 x 32 images, without batch norm.

    A convolution, four stages of two :class:`PreActivationBlock` with widths k, 2k, 4k, 8k, mean
    over 4 x 4 places, a linear layer. Convolutions have no bias. 699,066 parameters at k = 16,
    11,164,362 at k = 64.

    Without gradients, images go through in parts of 2,048, so that a whole training set can be
    evaluated at once.

    Args:
        width: k.
        n_classes: Outputs.
        seed: Seeds a private generator; None draws from torch's global one.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        He et al. 2016, arXiv:1603.05027; Humayun et al. 2024, arXiv:2402.15555, code
        AhmedImtiazPrio/grok-adversarial:models.py with PyTorch's default draw.
    """

    def __init__(self, width: int = 16, n_classes: int = 10, seed: int | None = None) -> None:
        super().__init__()
        require_int("width", width)
        self.first = _convolution(3, width, 3, 1)
        blocks, d_in = [], width
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(PreActivationBlock(d_in, width * 2**stage, stride))
                d_in = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.last = empty_linear(d_in, require_int("n_classes", n_classes), bias=True)
        self._initialise(private_generator(seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        torch_default_(self.last, generator)

    @property
    def preactivations(self) -> tuple[str, ...]:
        """Names of the modules in front of the ReLUs, in the order of the forward pass."""
        return tuple(name for name, m in self.named_modules() if isinstance(m, nn.Identity))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, n_classes) of images (n, 3, 32, 32)."""
        if torch.is_grad_enabled() or len(inputs) <= CHUNK:
            return self._forward(inputs)
        return torch.cat([self._forward(part) for part in inputs.split(CHUNK)])

    def _forward(self, inputs: Tensor) -> Tensor:
        return self.last(F.avg_pool2d(self.blocks(self.first(inputs)), 4).flatten(1))


def _convolution(d_in: int, d_out: int, size: int, stride: int) -> nn.Conv2d:
    """Without bias, and as large an image as before, over the stride; not drawn yet."""
    empty = nn.Conv2d(d_in, d_out, size, stride, size // 2, bias=False, device="meta")
    return empty.to_empty(device="cpu")
