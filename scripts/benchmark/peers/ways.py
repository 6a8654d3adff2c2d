"""Ways to the Gram matrix K of the per-sample gradients, ours and other libraries'.

Each takes a :class:`~peers.tasks.Task` and returns K (n, n) in float64. Products are taken in
the dtype of the gradients, parameter by parameter, and added up in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from peers.tasks import Loss, Task

Way = Callable[[Task], Tensor]
COLUMNS = 16_384  # of the gradients, in one product


def ours(task: Task, dtype: torch.dtype | None = None) -> Tensor:
    """``grokscope.gradients``; ``dtype`` is that of the products, None of the gradients."""
    from grokscope.gradients import capture

    factors = capture(task.net, task.loss, task.inputs, task.targets)
    return factors.gram(products=dtype or task.parameters[0].dtype)


def one_by_one(task: Task) -> Tensor:
    """Plain autograd, sample after sample: slow, and beyond doubt."""
    rows = []
    for x, y in zip(task.inputs, task.targets, strict=True):
        loss = task.loss(task.net(x[None]), y[None])[0]
        found = torch.autograd.grad(loss, task.parameters, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in found]).double())
    gradients = torch.stack(rows)
    return gradients @ gradients.mT


def torch_func(task: Task, chunk: int = 64, dtype: torch.dtype | None = None) -> Tensor:
    """``vmap(grad)``, ``chunk`` samples at a time, every gradient written to its place at once.

    ``dtype`` is that of the products; None, of the gradients.
    """
    named = dict(task.net.named_parameters())
    free = {name: p.detach() for name, p in named.items() if p.requires_grad}

    def sample_loss(values: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(task.net, dict(values), (x[None],))
        return task.loss(outputs, y[None])[0]

    gradients = {name: p.new_empty(task.n, p.numel()) for name, p in free.items()}
    per_sample = vmap(grad(sample_loss), (None, 0, 0))
    for begin in range(0, task.n, chunk):
        rows = slice(begin, begin + chunk)
        for name, found in per_sample(free, task.inputs[rows], task.targets[rows]).items():
            gradients[name][rows] = found.flatten(1)
    return product(gradients.values(), task.n, dtype)


def opacus(task: Task) -> Tensor:
    """``GradSampleModule``."""
    from opacus import GradSampleModule

    net = GradSampleModule(copy.deepcopy(task.net), loss_reduction="sum")
    task.loss(net(task.inputs), task.targets).sum().backward()
    return product(_attributes(net, "grad_sample"), task.n)


def backpack(task: Task) -> Tensor:
    """``BatchGrad``."""
    from backpack import backpack as active
    from backpack import extend
    from backpack.extensions import BatchGrad

    net = extend(copy.deepcopy(task.net))
    with active(BatchGrad()):
        task.loss(net(task.inputs), task.targets).sum().backward()
    return product(_attributes(net, "grad_batch"), task.n)


def nngeometry(task: Task) -> Tensor:
    """``GramMatrix`` of the loss as the function's one output: structured for plain Linear."""
    from nngeometry.gram import GramMatrix

    def function(x: Tensor, y: Tensor) -> Tensor:
        return task.loss(task.net(x), y)[:, None]

    samples = (task.inputs.clone(), task.targets)  # it asks for a gradient of the inputs
    layers = _trainable_layers(task.net)
    gram = GramMatrix(task.net, samples, function=function, layer_collection=layers)
    return gram.to_torch()[0, :, 0].double()


def _trainable_layers(net: nn.Module) -> object:
    """What nngeometry must be told where part of a net is frozen; else it finds the layers."""
    from nngeometry.layercollection import LayerCollection

    if all(p.requires_grad for p in net.parameters()):
        return LayerCollection.from_model(net)
    found = LayerCollection()
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if own and all(p.requires_grad for p in own):
            found.add_layer_from_model(net, module)
    return found


class _Losses(nn.Module):
    """The net with its loss as output, so that its Jacobian has the gradients as rows."""

    def __init__(self, net: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, samples: Mapping[str, Tensor]) -> Tensor:
        return self.loss(self.net(samples["inputs"]), samples["targets"])


def curvlinops(task: Task, chunk: int = 50) -> Tensor:
    """``JacobianLinearOperator`` and its transpose, on ``chunk`` unit vectors at a time."""
    from curvlinops import JacobianLinearOperator, TransposedJacobianLinearOperator

    samples = {"inputs": task.inputs, "targets": task.targets}
    settings = {
        "num_data": task.n,
        "check_deterministic": False,
        "batch_size_fn": lambda x: len(x["inputs"]),
    }
    arguments = (_Losses(task.net, task.loss), task.parameters, [(samples, task.targets)])
    jacobian = JacobianLinearOperator(*arguments, **settings)
    transposed = TransposedJacobianLinearOperator(*arguments, **settings)
    units = torch.eye(task.n, dtype=task.parameters[0].dtype).split(chunk, dim=1)
    with sdpa_kernel(SDPBackend.MATH):  # the only attention with forward mode
        return torch.cat([jacobian @ (transposed @ unit) for unit in units], dim=1).double()


WAYS: dict[str, Way] = {
    "grokscope": ours,
    "torch.func": torch_func,
    "opacus": opacus,
    "backpack": backpack,
    "nngeometry": nngeometry,
    "curvlinops": curvlinops,
}


def product(blocks: Iterable[Tensor], n: int, dtype: torch.dtype | None = None) -> Tensor:
    """A Aᵀ of the blocks (n, columns) of A, each in ``dtype`` or its own, added up in float64."""
    gram = torch.zeros(n, n, dtype=torch.float64)
    for block in blocks:
        for columns in block.split(COLUMNS, dim=1):
            part = columns.to(dtype or columns.dtype)
            gram += part @ part.mT
    return gram


def _attributes(net: nn.Module, attribute: str) -> Iterator[Tensor]:
    """The per-sample gradients that a library left at each parameter, (n, columns)."""
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            found = getattr(parameter, attribute, None)
            if found is None:
                raise LookupError(f"no {attribute} at {name}")
            yield found.flatten(1)
