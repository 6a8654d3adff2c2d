"""The average gradient outer product at the input of every layer, from one set of passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from grokscope.gradients.layout import gradient_layout
from grokscope.measures.factored import GOP
from grokscope.measures.input_gop import (
    CHUNK_SIZE,
    MAX_BYTES,
    chunks,
    evaluating,
    outputs_of,
    require_bytes,
    require_samples,
    reverse_passes,
)
from grokscope.measures.outer_products import OuterProductSum, gop_of_factor, joined
from grokscope.validation import require_choice, require_int

KNOWN_FORWARDS = (nn.Linear.forward, nn.Embedding.forward)
PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.(\w+)\.original$")  # of a masked weight


def layer_input_gops(
    net: nn.Module,
    inputs: Tensor,
    layers: Sequence[str] | None = None,
    *,
    centered: bool = False,
    chunk_size: int = CHUNK_SIZE,
    max_bytes: int = MAX_BYTES,
) -> dict[str, GOP]:
    r"""AGOP with respect to the input of each linear layer and the output of each embedding.

    For ``nn.Linear``, y_t = W x_t + b at positions t (all dimensions between the first and the
    last, and all calls of the layer, if there are several),

    .. math:: G = \frac{1}{n} \sum_{i=1}^{n} \sum_t J_{it}^\top J_{it},
              \qquad J_{it} = \frac{\partial f_i}{\partial y_{it}} W \in R^{c \times d_{in}}

    averaged over samples, summed over positions. It is the gradient *through this layer*; what
    else reads the same tensor (a residual stream, the query beside the key) does not count. In
    a chain of layers both are the same.

    For ``nn.Embedding`` with outputs e_t (d,): with respect to all of (e_1, ..., e_T), a
    T d x T d matrix, and everything that reads them; several calls follow each other. Its
    diagonal blocks are the matrices of the positions: :func:`position_gops`.

    Cost: c backward passes over the samples for all layers together, and n c T k^2
    multiply-adds a layer, k = min(d_in, d_out) (or T d); positions whose gradient is zero do
    not count. Memory: activations of ``chunk_size`` samples, 8 k min(k, n c T) bytes a layer.

    Args:
        net: Maps (b, ...) to (b, ...), flattened to c outputs; must treat the samples
            separately. Called in eval mode; mode, parameters and ``.grad`` stay as they are.
            Also called with the first sample two and three times, to find in which dimension
            a layer has its samples.
        inputs: (n, ...) samples or tokens.
        layers: Names, as in :class:`~grokscope.gradients.layout.GradientLayout`. None: all
            that the forward pass calls with one dimension for the samples (not so: an embedding
            of ``arange(T)``, inputs (b T, d), weights used without calling their layer).
        centered: As in :func:`~grokscope.measures.input_gop.input_gop`, for each position.
        chunk_size: Samples in one pass.
        max_bytes: Most that the results may take, together.

    Returns:
        Layer name -> (d_in, d_in) or (T d, T d) matrix in factor form, in the layout's order.
        Only layers whose weight is trained have a name; of several modules that share a
        weight, the first.

    Raises:
        ValueError: For an argument out of range, a layer that is unknown or not called sample
            by sample, results above ``max_bytes``, or a module that mixes samples.

    Source:
        Radhakrishnan et al. 2024, Science 383:1461, for chains of layers; sums over positions
        as over patches in Beaglehole et al. 2023, arXiv:2309.00570. Gradients through one
        layer, and embeddings, are our choice.
    """
    require_samples("inputs", inputs, chunk_size, max_bytes)
    named = weight_layers(net, layers)
    with evaluating("net", net, inputs):
        found, c = _called_layers(net, named, inputs)
        missing = [name for name in named if name not in found]
        if missing and (layers is not None or not found):
            raise ValueError(f"layers must be called sample by sample, '{missing[0]}' is not.")
        require_bytes(sum(layer.n_values(c * len(inputs)) for layer in found.values()), max_bytes)
        sums = {name: OuterProductSum(layer.side, centered) for name, layer in found.items()}
        for seen, chunk in chunks(inputs, chunk_size):
            for key, gradients in _output_gradients(net, chunk, found):
                for name, total in sums.items():
                    total.add(found[name].rows(gradients[name]), key, seen)
    return {name: total.gop(len(inputs), found[name].map) for name, total in sums.items()}


def position_gops(gop: GOP, n_positions: int) -> list[GOP]:
    """The diagonal blocks (d, d) of an embedding's (T d, T d) matrix, position by position.

    Args:
        gop: From :func:`layer_input_gops`.
        n_positions: T.

    Raises:
        ValueError: If T does not divide the side of the matrix.
    """
    require_int("n_positions", n_positions)
    if gop.n_parameters % n_positions:
        raise ValueError(
            f"n_positions must divide the side {gop.n_parameters}, got {n_positions}."
        )
    return [gop_of_factor(block) for block in gop.factor.chunk(n_positions, dim=1)]


@dataclass(frozen=True)
class _Layer:
    """How gradients at a layer's outputs become rows of its Jacobian.

    Attributes:
        module: ``nn.Linear`` or ``nn.Embedding``.
        width: Its outputs for one sample: all positions, all calls.
        dims: For each call, the dimension of its outputs that holds the samples.
    """

    module: nn.Linear | nn.Embedding
    width: int
    dims: tuple[int, ...]

    @property
    def map(self) -> Tensor | None:
        """W of a layer with no more outputs than inputs; its rows get it at the end."""
        module = self.module
        late = isinstance(module, nn.Linear) and module.out_features <= module.in_features
        return module.weight if late else None

    @property
    def side(self) -> int:
        """Width of the rows."""
        if isinstance(self.module, nn.Embedding):
            return self.width
        return min(self.module.in_features, self.module.out_features)

    def n_values(self, n_passes: int) -> int:
        """Entries of the result, from ``n_passes`` gradients at all outputs."""
        if isinstance(self.module, nn.Embedding):
            return self.width * min(self.width, n_passes)
        n_rows = n_passes * self.width // self.module.out_features
        return self.module.in_features * min(self.side, n_rows)

    def rows(self, gradients: Sequence[Tensor]) -> Tensor:
        """Rows (b, g, side) from the gradients (..., d_out) at each call's outputs."""
        gradients = [g.movedim(dim, 0) for g, dim in zip(gradients, self.dims, strict=True)]
        b = len(gradients[0])
        if isinstance(self.module, nn.Embedding):
            return joined([g.reshape(b, 1, -1) for g in gradients], dim=2)
        rows = joined([g.reshape(b, -1, g.shape[-1]) for g in gradients], dim=1)
        return rows @ self.module.weight.detach() if self.map is None else rows


def weight_layers(
    net: nn.Module, layers: Sequence[str] | None = None
) -> dict[str, nn.Linear | nn.Embedding]:
    """Layers by the names of the layout; those of a subclass's own forward are not known."""
    trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    slots = gradient_layout(net.named_parameters()).slots
    found: dict[str, nn.Linear | nn.Embedding] = {}
    for full_name, slot in zip(trained, slots, strict=True):
        path, _, name = PARAMETRIZED.sub(r"\1\2", full_name).rpartition(".")
        module: Any = net.get_submodule(path)
        if name == "weight" and type(module).forward in KNOWN_FORWARDS:
            found[slot.layer] = module
    if not found:
        raise ValueError("net must have an nn.Linear or nn.Embedding that is trained, got none.")
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got {layers!r}.")
    chosen = found if layers is None else {require_choice("layers", n, found) for n in layers}
    return {name: module for name, module in found.items() if name in chosen}


def _called_layers(
    net: nn.Module, modules: dict[str, nn.Linear | nn.Embedding], inputs: Tensor
) -> tuple[dict[str, _Layer], int]:
    """Those of the modules that are called sample by sample, and the number c of outputs."""
    calls, found = [], {}
    for b in (2, 3):
        with _watched(modules) as watched:
            outputs = outputs_of("net", net, inputs[:1].expand(b, *inputs.shape[1:]))
        calls.append(watched)
    for name, module in modules.items():
        two, three = calls[0][name], calls[1][name]
        if dims := _sample_dims(two, three):
            found[name] = _Layer(module, sum(output.numel() for output in two) // 2, dims)
    return found, outputs.shape[1]


def _sample_dims(two: list[Tensor], three: list[Tensor]) -> tuple[int, ...]:
    """For each call, the one dimension that tells two samples from three; empty if there is none.

    With one number of samples, as many positions would look the same.
    """
    differ = [
        [dim for dim, sizes in enumerate(zip(a.shape, b.shape, strict=False)) if sizes == (2, 3)]
        for a, b in zip(two, three, strict=False)
    ]
    unique = len(two) == len(three) and all(len(dims) == 1 for dims in differ)
    return tuple(dims[0] for dims in differ) if unique else ()


def _output_gradients(
    net: nn.Module, chunk: Tensor, layers: dict[str, _Layer]
) -> Iterator[tuple[int, dict[str, list[Tensor]]]]:
    """For each output of the net, its gradients at the outputs of all calls of the layers."""
    with _watched({name: layer.module for name, layer in layers.items()}) as calls:
        outputs = outputs_of("net", net, chunk)
    tensors = [tensor for found in calls.values() for tensor in found]
    for key, gradients in reverse_passes("net", outputs, tensors):
        rest = iter(gradients)
        yield key, {name: [next(rest) for _ in found] for name, found in calls.items()}


@contextmanager
def _watched(
    modules: dict[str, nn.Linear | nn.Embedding],
) -> Iterator[dict[str, list[Tensor]]]:
    """Collects the outputs of the modules; what follows reads copies and may write into them."""
    calls: dict[str, list[Tensor]] = {name: [] for name in modules}

    def watch(found: list[Tensor]) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            found.append(output if output.requires_grad else output.detach().requires_grad_())
            return found[-1].clone()

        return hook

    handles = [
        module.register_forward_hook(watch(calls[name]), prepend=True)
        for name, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
