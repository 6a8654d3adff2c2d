"""Per-sample gradients written out: where a parameter has no form, and to check those that do."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from grokscope.gradients.network import Network, Samples


def per_sample_gradients(
    network: Network, samples: Samples, head: Tensor, wanted: Sequence[int], max_bytes: int
) -> list[Tensor]:
    """Gradients (n, size) of ``values @ head`` by some parameters, in chunks.

    By ``vmap`` of a gradient; nets that ``vmap`` can't do are differentiated one sample after
    the other.
    """
    size = sum(network.parameters[i].numel() for i in wanted)
    chunk = max(1, max_bytes // (8 * max(size, 1)))
    parts = []
    for start in range(0, len(samples), chunk):
        rows = samples.take(slice(start, start + chunk))
        try:
            parts.append(_mapped(network, rows, head, wanted))
        except (RuntimeError, ValueError, NotImplementedError):
            parts.append(one_by_one(network, rows, head, wanted))
    return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


def one_by_one(
    network: Network, samples: Samples, head: Tensor, wanted: Sequence[int]
) -> list[Tensor]:
    """The same with one backward pass a sample."""
    parameters = [network.parameters[i] for i in wanted]
    rows = []
    for k in range(len(samples)):
        total = (network(samples.take(slice(k, k + 1))) @ head).sum()
        rows.append([g.flatten() for g in gradients(total, parameters)])
    return [torch.stack(pieces) for pieces in zip(*rows, strict=True)]


def gradients(total: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradient of one number by each parameter, zeros where it does not depend on it."""
    if not total.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(
        total, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _mapped(
    network: Network, samples: Samples, head: Tensor, wanted: Sequence[int]
) -> list[Tensor]:
    chosen = {network.names[i]: network.parameters[i].detach() for i in wanted}

    def value(parameters: dict[str, Tensor], x: tuple[Tensor, ...], y: Tensor | None) -> Tensor:
        outputs = functional_call(network.module, parameters, tuple(part[None] for part in x))
        return (network.values(outputs, None if y is None else y[None]) @ head).sum()

    in_dims = (None, 0, None if samples.targets is None else 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # right, but slower
        mapped = vmap(grad(value), in_dims, randomness="different")
        found = mapped(chosen, samples.inputs, samples.targets)
    return [found[network.names[i]].detach().reshape(len(samples), -1) for i in wanted]
