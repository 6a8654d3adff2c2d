"""Average gradient outer product (AGOP): along which directions of the input outputs change.

What follows :func:`input_gop` is shared with :mod:`grokscope.measures.layer_gop`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, grad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.random import fork_rng

from grokscope.gradients.network import eager
from grokscope.measures.factored import GOP
from grokscope.measures.outer_products import OuterProductSum
from grokscope.validation import require_choice, require_int

MODES = ("auto", "reverse", "forward")
CHUNK_SIZE = 512
MAX_BYTES = 2**28


def input_gop(
    func: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    centered: bool = False,
    mode: str = "auto",
    chunk_size: int = CHUNK_SIZE,
    max_bytes: int = MAX_BYTES,
) -> GOP:
    r"""Average gradient outer product of ``func`` with respect to its input.

    .. math:: G = \frac{1}{n} \sum_{i=1}^{n} J(x_i)^\top J(x_i),
              \qquad J(x_i) = \frac{\partial f}{\partial x}(x_i) \in R^{c \times d}

    In units of output^2 / input^2; the trace is the mean squared Frobenius norm of the
    Jacobians. With ``centered`` the gradient of each output loses its mean over the samples
    before the product, :math:`G - \bar J^\top \bar J`, as in recursive feature machines.

    Jacobians have the precision of ``x`` and ``func``; sums and eigenvalues are float64.
    Chunks and their order change the result by rounding only. A module is called in eval mode
    (wrap it in a lambda to keep its own); modes, parameters and ``.grad`` stay as they are.

    Cost: c backward passes over the samples, or d forward-mode passes, and n c d^2
    multiply-adds. Memory: activations of ``chunk_size`` samples, and 8 d min(d, n c) bytes for
    the result; its factor is the rows of J where n c < d, otherwise :math:`\Lambda^{1/2} V^\top`
    of the accumulated matrix (another 24 d^2 bytes and O(d^3) at the end).

    Args:
        func: Maps a batch (b, ...) to (b, ...), flattened to c outputs; must treat the samples
            separately. Also called with the first sample twice, to learn c.
        x: (n, ...), flattened to d inputs; floating point. For tokens take
            :func:`~grokscope.measures.layer_gop.layer_input_gops`.
        centered: Subtract the mean gradient.
        mode: ``reverse``; ``forward``; or ``auto``: forward where d < c and all operations
            have a forward mode.
        chunk_size: Samples in one pass.
        max_bytes: Most that the result may take.

    Returns:
        The d x d matrix in factor form; NaN where a gradient is not finite.

    Raises:
        ValueError: For an argument out of range, a result above ``max_bytes``, a module that
            mixes samples, or outputs that are not (b, ...) or have no gradient.

    Source:
        Radhakrishnan et al. 2024, Science 383:1461, arXiv:2212.13881; centred as in the code of
        Mallinar et al. 2024, arXiv:2407.20199.

    Example:
        >>> weight = torch.tensor([[1.0, 2.0]])
        >>> input_gop(lambda x: x @ weight.T, torch.zeros(3, 2)).dense().round(decimals=9)
        tensor([[1., 2.],
                [2., 4.]], dtype=torch.float64)
    """
    require_samples("x", x, chunk_size, max_bytes)
    require_choice("mode", mode, MODES)
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, got {x.dtype}.")
    with evaluating("func", func, x):
        d, c = x[0].numel(), outputs_of("func", func, x[:1].expand(2, *x.shape[1:])).shape[1]
        require_bytes(d * min(d, c * len(x)), max_bytes)
        forward = mode == "forward" or (mode == "auto" and d < c and _has_forward_mode(func, x))
        total = OuterProductSum(d, centered)
        for seen, chunk in chunks(x, chunk_size):
            for key, rows in (_forward_rows if forward else _reverse_rows)(func, chunk):
                total.add(rows, key, seen)
    return total.gop(len(x))


def _reverse_rows(func: Callable[[Tensor], Tensor], chunk: Tensor) -> Iterator[tuple[int, Tensor]]:
    """For each output its gradients (b, 1, d)."""
    leaf = chunk.detach().clone().requires_grad_()
    for key, (gradients,) in reverse_passes("func", outputs_of("func", func, leaf), [leaf]):
        yield key, gradients.reshape(len(chunk), 1, -1)


def _forward_rows(func: Callable[[Tensor], Tensor], chunk: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The gradients (b, c, d) of all outputs, input by input."""
    columns = []
    directions = torch.eye(chunk[0].numel(), dtype=chunk.dtype, device=chunk.device)
    for direction in directions.reshape(-1, *chunk.shape[1:]):
        with torch.no_grad(), forward_ad.dual_level():
            outputs = outputs_of("func", func, _dual(chunk, direction))
            tangent = forward_ad.unpack_dual(outputs).tangent
            columns.append(torch.zeros_like(outputs) if tangent is None else tangent)
    yield 0, torch.stack(columns, dim=-1)


def _dual(x: Tensor, direction: Tensor) -> Tensor:
    """Where forward mode starts; at its first use torch loads scripts that it deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return forward_ad.make_dual(x, direction.expand_as(x).clone())


def _has_forward_mode(func: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    try:
        next(_forward_rows(func, x[:1].expand(2, *x.shape[1:]).clone()))
    except NotImplementedError:
        return False
    return True


def reverse_passes(
    name: str, outputs: Tensor, tensors: Sequence[Tensor]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """For each column of outputs (b, c), its gradients at ``tensors``, summed over the batch.

    One pass at a time: ``is_grads_batched`` took up to twice as long (500 hidden units and more,
    two CPU cores), and fails on our transformer.
    """
    if not outputs.requires_grad:
        raise ValueError(f"{name} must be differentiable, got outputs without a gradient.")
    for key in range(outputs.shape[1]):
        seed = torch.zeros_like(outputs)
        seed[:, key] = 1
        yield key, grad(outputs, tensors, seed, retain_graph=True, materialize_grads=True)


def outputs_of(name: str, func: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Outputs (b, c) of a copy of ``x``, which ``func`` may write into."""
    outputs = func(x.clone())
    if not isinstance(outputs, Tensor):
        raise ValueError(f"{name} must return a tensor, got {type(outputs).__name__}.")
    if outputs.ndim == 0 or len(outputs) != len(x) or outputs.numel() == 0:
        raise ValueError(
            f"{name} must return outputs (b, ...) for each of b samples, "
            f"got {tuple(outputs.shape)} for {len(x)}."
        )
    return outputs.reshape(len(x), -1)


@contextmanager
def evaluating(name: str, func: object, x: Tensor) -> Iterator[None]:
    """Gradients on; all parts of a module in eval mode. Modes and random state are put back."""
    modules = dict(func.named_modules()) if isinstance(func, nn.Module) else {}
    for path, module in modules.items():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{name} must treat samples separately; '{path}', a "
                f"{type(module).__name__} without running statistics, mixes them."
            )
    modes = {module: module.training for module in modules.values()}
    devices = [x.device] if x.is_cuda else []
    try:
        for module in modes:
            module.training = False
        with fork_rng(devices), eager(), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def chunks(x: Tensor, chunk_size: int) -> Iterator[tuple[int, Tensor]]:
    """Pairs (samples before, next samples)."""
    return ((seen, x[seen : seen + chunk_size]) for seen in range(0, len(x), chunk_size))


def require_samples(name: str, x: Tensor, chunk_size: int, max_bytes: int) -> None:
    """Refuse what is not (n, ...) with n >= 1, and sizes that are not positive integers."""
    require_int("chunk_size", chunk_size)
    require_int("max_bytes", max_bytes)
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {tuple(x.shape)}.")


def require_bytes(n_values: int, max_bytes: int) -> None:
    """Refuse a result of ``n_values`` float64 above ``max_bytes``."""
    if 8 * n_values > max_bytes:
        raise ValueError(
            f"max_bytes must be >= {8 * n_values:,} for this input GOP, got {max_bytes:,}."
        )
