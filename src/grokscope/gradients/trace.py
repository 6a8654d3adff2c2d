"""Watches a forward pass and notes every use of every parameter."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from grokscope.gradients.calls import Call, Handler
from grokscope.gradients.layer_calls import HANDLERS
from grokscope.gradients.sites import SampleDim, Site, View

GETTERS = (torch.Tensor.T.__get__, torch.Tensor.mT.__get__)  # type: ignore[attr-defined]
REARRANGING = {"t", "transpose", "swapaxes", "swapdims", "permute", "movedim", "reshape", "view"}
REARRANGING |= {"view_as", "flatten", "unflatten", "unsqueeze", "squeeze", "contiguous", "clone"}
REARRANGING |= {"narrow", "select", "chunk", "split", "tensor_split", "unbind"}
REARRANGING |= {"expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"}
REARRANGING |= {"embedding", "index_select", "__getitem__"}
Shapes = list[list[tuple[int, ...]]]


@dataclass(frozen=True)
class Use:
    """A use of a parameter, and where in the graph its result's gradient appears."""

    site: Site
    edge: GradientEdge
    shape: torch.Size

    @property
    def parameter(self) -> int:
        """Number of the parameter."""
        return self.site.view.parameter


class ShapeLog(TorchFunctionMode):
    """Notes the shapes of all tensors that go into and come out of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Shapes = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if opened := _opened(func):
            with self:
                return opened(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        self.shapes.append([tuple(t.shape) for t in tensors((args, kwargs, out))])
        return out


class Tracer(TorchFunctionMode):
    """Notes the uses of parameters in one forward pass.

    Attributes:
        uses: In the order of the calls.

    Args:
        parameters: Those that are watched.
        dims: For each call, for each of its tensors, the dimension that counts samples
            (:func:`sample_dims`).
        n_samples: Samples of the pass.
        copy: Whether results are copied, so that a later change in place of a result that is a
            view does not cut it off from the graph.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        dims: Sequence[Sequence[SampleDim | None]],
        n_samples: int,
        copy: bool = False,
    ) -> None:
        super().__init__()
        self._copy = copy
        self.uses: list[Use] = []
        self._other: set[int] = set()
        self._dims, self._count, self._n = dims, 0, n_samples
        self._views = {
            id(p): (p, View(i, p.numel(), tuple(p.shape))) for i, p in enumerate(parameters)
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if opened := _opened(func):
            with self:
                return opened(*args, **kwargs)
        out = func(*args, **kwargs)
        dims = self._dims[self._count] if self._count < len(self._dims) else ()
        self._count += 1
        given = [t for t in tensors((args, kwargs)) if id(t) in self._views]
        if self._copy and given and isinstance(out, Tensor) and not _in_place(func):
            out = out.clone()
        results = [t for t in tensors(out) if t.requires_grad]
        if given and results:
            self._note(func, args, kwargs, given, results, out, dims)
        return out

    def unstructured(self) -> set[int]:
        """Numbers of the parameters that are used in a way without a known form.

        All of them where the pass was made of other calls than those that ``dims`` is about.
        """
        same = self._count == len(self._dims)
        return self._other if same else {v.parameter for _, v in self._views.values()}

    def _note(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        given: list[Tensor],
        results: list[Tensor],
        out: Any,
        dims: Sequence[SampleDim | None],
    ) -> None:
        named = zip(tensors((args, kwargs, out)), dims, strict=False)
        found = {id(t): d for t, d in named if d and d.counts(t, self._n)}
        name = getattr(func, "__name__", "")
        per_sample = any(found.get(id(t)) for t in results)
        rearranges = func in GETTERS or name in REARRANGING
        if rearranges and not per_sample and self._follow(func, args, kwargs, given, results):
            return
        call = Call(func, args, kwargs, results[0], self._view_of, lambda t: found.get(id(t)))
        sites = _sites(HANDLERS.get(name), call) if len(results) == 1 else None
        if sites is None or {s.view.parameter for s in sites} != self._numbers(given):
            self._other |= self._numbers(given)
        else:
            edge, shape = get_gradient_edge(results[0]), results[0].shape
            self.uses += [Use(site, edge, shape) for site in sites]

    def _follow(
        self, func: Any, args: Any, kwargs: Any, given: list[Tensor], results: list[Tensor]
    ) -> bool:
        """Note that the results hold entries of one parameter; False if they may not."""
        if len({id(t) for t in given}) > 1 or kwargs.get("padding_idx") is not None:
            return False
        view = self._view_of(given[0])
        assert view is not None
        entries = view.ids().to(given[0].device)
        swapped = _replaced((args, kwargs), given[0], entries)
        places = tensors(func(*swapped[0], **swapped[1]))
        for result, place in zip(results, places, strict=True):
            part = View(view.parameter, view.size, tuple(place.shape), place.cpu())
            self._views[id(result)] = (result, part)
        return True

    def _view_of(self, tensor: Any) -> View | None:
        return self._views[id(tensor)][1] if id(tensor) in self._views else None

    def _numbers(self, given: list[Tensor]) -> set[int]:
        return {self._views[id(t)][1].parameter for t in given}


def _in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name.endswith("_") or name == "__setitem__"


def _sites(handler: Handler | None, call: Call) -> list[Site] | None:
    """None where no handler knows the function, or not in this signature."""
    try:
        return handler(call) if handler else None
    except (TypeError, ValueError, IndexError):
        return None


def sample_dims(two: Shapes, three: Shapes) -> list[list[SampleDim | None]]:
    """Which dimension counts samples, from the same pass over two and over three of them.

    Returns:
        For each call, for each of its tensors; None where no dimension does, or several. An
        empty list if the two passes are not made of the same calls.
    """
    if [len(call) for call in two] != [len(call) for call in three]:
        return []
    return [
        [_sample_dim(a, b) for a, b in zip(*call, strict=True)]
        for call in zip(two, three, strict=True)
    ]


def _sample_dim(two: tuple[int, ...], three: tuple[int, ...]) -> SampleDim | None:
    changed = [d for d, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) != len(three) or len(changed) != 1:
        return None
    a, b = two[changed[0]], three[changed[0]]
    return SampleDim(changed[0], a // 2) if 3 * a == 2 * b else None


def tensors(values: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    return list(_tensors(values))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _replaced(values: Any, old: Tensor, new: Tensor) -> Any:
    if values is old:
        return new
    if isinstance(values, tuple | list):
        return type(values)(_replaced(v, old, new) for v in values)
    if isinstance(values, dict):
        return {key: _replaced(value, old, new) for key, value in values.items()}
    return values


def _opened(func: Any) -> Callable[..., Any] | None:
    """Attention's own steps instead of attention as one: the same function, not intercepted."""
    if func is not functional.multi_head_attention_forward:
        return None
    seen = func.__globals__ | {"has_torch_function": lambda _: False}
    return types.FunctionType(
        func.__code__, seen, func.__name__, func.__defaults__, func.__closure__
    )
