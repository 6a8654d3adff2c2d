"""What the study of grokking tickets follows while a net trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import parametrize

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.pruning import (
    fourier_entropy,
    global_masks,
    jaccard_distance,
    magnitude_scores,
)
from grokscope.validation import require_float

PATH = ("embed", "hidden")


class TicketProgress(ProgressMeasure):
    """Magnitude masks and norms of the weights as the net computes with them.

    Columns: ``jaccard_distance``, of the mask that global magnitude pruning would give now to the
    one
    at the row before, NaN at the first, and ``jaccard_distances`` the same by matrix; ``l1_norm``
    and
    ``l2_norm`` of all matrices together; ``kept``, the share of their entries that is not zero;
    with ``fourier``, ``fourier_entropy``, the mean over neurons.

    Args:
        pruned: Share of the entries that a mask leaves out.
        fourier: Names of an embedding and of linear layers whose product maps a token to neurons;
            None leaves the entropy out.
        schedule: When; the distances are between its epochs.

    Source:
        Minegishi et al. 2023, arXiv:2310.19470. Norms are over all matrices together; the released
        code reports means of the norms of single ones.
    """

    def __init__(
        self,
        pruned: float = 0.6,
        fourier: Sequence[str] | None = PATH,
        schedule: Any = "every 2000",
    ) -> None:
        super().__init__(schedule)
        self.pruned = require_float("pruned", pruned, minimum=0.0, below=1.0)
        self.fourier = tuple(fourier or ())
        self._last: dict[str, Tensor] = {}

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        net = _net(module)
        if missing := [name for name in self.fourier if not hasattr(net, name)]:
            raise ValueError(
                f"fourier must name layers of the net or be null, got {missing[0]!r}, "
                f"which {type(net).__name__} does not have."
            )
        names = ("jaccard_distance", "l1_norm", "l2_norm", "kept")
        more: dict[str, tuple[int, ...]] = {"fourier_entropy": ()} if self.fourier else {}
        return dict.fromkeys(names, ()) | more | {"jaccard_distances": (len(_matrices(module)),)}

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """The matrices' names."""
        return {"matrices": list(_matrices(module))}

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        weights = _matrices(module)
        masks = global_masks(magnitude_scores(weights), self.pruned)
        found = self._distances(masks) | _norms(weights)
        if self.fourier:
            found["fourier_entropy"] = float(fourier_entropy(self._path(_net(module))).mean())
        self._last = {name: mask.bool() for name, mask in masks.items()}
        return found

    def _distances(self, masks: Mapping[str, Tensor]) -> dict[str, Any]:
        if not self._last:
            nothing = float("nan")
            return {"jaccard_distance": nothing, "jaccard_distances": [nothing] * len(masks)}
        last = {name: mask.to(masks[name].device) for name, mask in self._last.items()}
        whole = [torch.cat([m.flatten() for m in side.values()]) for side in (last, masks)]
        each = [jaccard_distance(last[name], mask) for name, mask in masks.items()]
        return {"jaccard_distance": jaccard_distance(*whole), "jaccard_distances": each}

    def _path(self, net: nn.Module) -> Tensor:
        """(tokens, neurons): the embedding, and each further layer's matrix transposed."""
        first, *rest = (getattr(net, name).weight.detach() for name in self.fourier)
        for weight in rest:
            first = first @ weight.t()
        return first

    def state(self) -> dict[str, Any]:
        """The mask of the row before."""
        return dict(self._last)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._last = dict(state)


def _net(module: LightningModule) -> nn.Module:
    net = getattr(module, "net", module)
    assert isinstance(net, nn.Module)
    return net


def _matrices(module: LightningModule) -> dict[str, Tensor]:
    """Name -> matrix as the net computes with it: pruned entries are zero."""
    found: dict[str, Tensor] = {}
    for owner, part in _net(module).named_modules():
        own = dict(part.named_parameters(recurse=False))
        if parametrize.is_parametrized(part):
            own |= {name: getattr(part, name) for name in part.parametrizations}
        if not isinstance(part, parametrize.ParametrizationList):
            found |= {f"{owner}.{n}".lstrip("."): w.detach() for n, w in own.items()}
    return {name: weight for name, weight in found.items() if weight.dim() > 1}


def _norms(weights: Mapping[str, Tensor]) -> dict[str, float]:
    everything = torch.cat([weight.flatten().double() for weight in weights.values()])
    return {
        "l1_norm": float(torch.linalg.vector_norm(everything, 1)),
        "l2_norm": float(torch.linalg.vector_norm(everything)),
        "kept": float((everything != 0).double().mean()),
    }
