"""What Thilak et al. 2022 record to see slingshots."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.optimizer_step import cosine_distance, feature_change, update_sharpness
from grokscope.validation import require_int


class LastLayerNorm(ProgressMeasure):
    r"""The Frobenius norm :math:`\|W\|` of the classifier's weight, as ``norm``.

    Args:
        schedule: When; as often as the losses, so that slingshots can be found.
        classifier: Name of the weight.

    Source:
        Thilak et al. 2022, arXiv:2206.04817.
    """

    def __init__(self, schedule: Any = "every 1", classifier: str = "unembed.weight") -> None:
        super().__init__(schedule)
        self.classifier = classifier

    def columns(self, module: LightningModule) -> dict[str, tuple[int, ...]]:
        """``norm``."""
        _named(module, self.classifier)
        return {"norm": ()}

    def measure(self, module: LightningModule) -> dict[str, float]:
        """At the present weights."""
        return {"norm": float(_named(module, self.classifier).detach().double().norm())}


class SlingshotMeasures(ProgressMeasure):
    """Curvature along the coming step, what it does to features, and how far weights have come.

    The coming step is worked out on a copy of net and optimizer: it is the first of the pass
    that follows, on its own mini-batch, clipped and constrained as it will be. In evaluation
    mode, so with dropout or noise it is the step without them. Columns:

    - ``update_sharpness`` (u'Hu/|u|², the Hessian that of the step's own mini-batch; the paper
      does not say) and ``update_norm`` |u|;
    - ``feature_change`` of each of ``layers``, relative, at a fixed batch;
    - ``cosine_representation`` and ``cosine_classifier``: distances from the weights of the
      first row, the initial ones unless the schedule leaves out epoch 0. They are kept in
      checkpoints.

    Args:
        schedule: When.
        layers: Modules of the net whose outputs are features.
        classifier: Name of the classifier's weight; the other parameters are the representation.
        probe: Training samples of the fixed batch, evenly spaced.

    Source:
        Thilak et al. 2022, arXiv:2206.04817.
    """

    needs_optimizer = True

    def __init__(
        self,
        schedule: Any = "log 20",
        layers: Sequence[str] = ("blocks.0", "blocks.1"),
        classifier: str = "unembed.weight",
        probe: int = 512,
    ) -> None:
        super().__init__(schedule)
        self.layers, self.classifier = tuple(layers), classifier
        self.probe = require_int("probe", probe)
        self._initial: dict[str, Tensor] = {}

    def columns(self, module: LightningModule) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        _named(module, self.classifier)
        known = dict(_net(module).named_modules())
        if missing := [layer for layer in self.layers if layer not in known]:
            names = ", ".join(name for name in known if name)
            raise ValueError(f"layers must be of {names}, got {missing[0]!r}.")
        scalars = ("update_sharpness", "update_norm", "cosine_representation", "cosine_classifier")
        return dict.fromkeys(scalars, ()) | {"feature_change": (len(self.layers),)}

    def attributes(self, module: LightningModule) -> dict[str, Any]:
        """Names of the layers."""
        return {"layers": list(self.layers)}

    def measure(self, module: LightningModule) -> dict[str, Any]:
        """At the present weights and optimizer state."""
        net = _net(module)
        loss, after = next_step(module)
        weights = [p for p in net.parameters() if p.requires_grad]
        moved = [p for p in after.parameters() if p.requires_grad]
        update = [(b - a).detach() for a, b in zip(weights, moved, strict=True)]
        return {
            "update_sharpness": update_sharpness(loss, weights, update),
            "update_norm": math.sqrt(sum(float(u.double().square().sum()) for u in update)),
            "feature_change": self._feature_changes(module, after),
            **self._distances(net),
        }

    def _feature_changes(self, module: LightningModule, after: nn.Module) -> list[float]:
        inputs, _ = cast(Any, module).training_samples()
        count = min(self.probe, len(inputs))
        inputs = inputs[torch.linspace(0, len(inputs) - 1, count).round().long()]
        with torch.no_grad():
            pair = [_features(net, self.layers, inputs) for net in (_net(module), after)]
        return [feature_change(before, now) for before, now in zip(*pair, strict=True)]

    def _distances(self, net: nn.Module) -> dict[str, float]:
        weights = {name: p.detach() for name, p in net.named_parameters()}
        if not self._initial:
            self._initial = {name: p.cpu().clone() for name, p in weights.items()}
        found = {}
        for part, names in {
            "representation": [name for name in weights if name != self.classifier],
            "classifier": [self.classifier],
        }.items():
            pair = [[these[n].cpu() for n in names] for these in (weights, self._initial)]
            found[f"cosine_{part}"] = cosine_distance(*pair)
        return found

    def state(self) -> dict[str, Any]:
        """The weights of the first row."""
        return {"initial": dict(self._initial)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._initial = dict(state["initial"])


def next_step(module: Any) -> tuple[Tensor, nn.Module]:
    """The loss of the coming step at the present weights, with its graph, and the net after it.

    Args:
        module: A :class:`~grokscope.models.GrokkingModule` at the start of a pass.
    """
    loss = _coming_loss(module)
    optimizer = module.trainer.optimizers[0]
    before = list(module.net.parameters())
    gradients = torch.autograd.grad(loss, before, retain_graph=True, allow_unused=True)
    net, copied, after_step = copy.deepcopy((module.net, optimizer, module.after_step))
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    if module.clip_norm is not None:
        clip_grad_norm_(net.parameters(), module.clip_norm)
    copied.step()
    if after_step is not None:
        with torch.no_grad():
            after_step(net)
    return loss, net


def _coming_loss(module: Any) -> Tensor:
    """Differentiable twice: by the plain forward pass and the loss of each sample."""
    samples = module.train_batch
    if module.steps_per_epoch > 1:
        epoch = module.trainer.global_step // module.steps_per_epoch
        samples = samples.take(next(module.data.batch_rows(epoch)))
    loss = module.loss(module.net(samples.split.inputs), samples.loss_targets).mean()
    if not module.l2:
        return loss
    return loss + module.l2 * sum(p.square().sum() for p in module.net.parameters())


def _features(net: nn.Module, layers: Sequence[str], inputs: Tensor) -> list[Tensor]:
    found: dict[str, Tensor] = {}
    with _watched(net, layers, found):
        net(inputs)
    return [found[layer] for layer in layers]


@contextmanager
def _watched(net: nn.Module, layers: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
    """Keep what these modules give in ``found``."""
    handles = []
    for name in layers:

        def keep(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
            found[name] = output

        handles.append(net.get_submodule(name).register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _net(module: LightningModule) -> nn.Module:
    return cast(nn.Module, module.net)


def _named(module: LightningModule, name: str) -> Tensor:
    parameters: Mapping[str, Tensor] = dict(_net(module).named_parameters())
    if name not in parameters:
        raise ValueError(f"classifier must be of {', '.join(parameters)}, got {name!r}.")
    return parameters[name]
