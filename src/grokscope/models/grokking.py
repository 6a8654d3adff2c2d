"""The LightningModule of every gradient-trained experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from grokscope.data.base import Split, TensorDataModule
from grokscope.models.loop import Batch, PassLoopModule
from grokscope.models.losses import Accuracy, Loss, squared_norm
from grokscope.models.parameter_groups import parameter_groups
from grokscope.validation import require_float


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modules' modes are restored."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def differs_in_training(net: nn.Module) -> bool:
    """Whether outputs in training mode are others: dropout, batch norm.

    A module of another sort says so by an attribute ``differs_in_training``.
    """
    return any(
        getattr(part, "differs_in_training", False)
        or (isinstance(part, _DropoutNd) and part.p > 0)
        or isinstance(part, _BatchNorm)
        for part in net.modules()
    )


@dataclass(frozen=True)
class Step:
    """An optimizer step between backward and update; gradients are the parameters' own.

    Attributes:
        loss: Mean over its samples, without penalties.
        outputs: (n, ...) of the net.
        targets: As the loss takes them.
    """

    loss: Tensor
    outputs: Tensor
    targets: Tensor

    def detached(self) -> Step:
        """The same without a graph."""
        return Step(self.loss.detach(), self.outputs.detach(), self.targets)


class GrokkingModule(PassLoopModule):
    """Trains a net on a task that fits on the device (:class:`~.loop.PassLoopModule`).

    Args:
        net: Maps inputs to outputs (n, c). With ``share`` and ``forward_shared`` (see
            :mod:`grokscope.nets`), the full-batch forward shares work among samples.
        loss: Per-sample loss.
        accuracy: Per-sample right or wrong.
        optimizer: Maps parameters to an optimizer.
        scheduler: Maps the optimizer to a scheduler, stepped after every optimizer step.
        l2: Adds ``l2`` times the sum of all squared parameters to the loss that is minimised
            (not to the recorded loss). A negative one makes the norm grow.
        steps_per_call: ``many`` or ``one`` optimizer steps in one ``training_step``.
        parameter_settings: Settings of the optimizer for parameters by name: see
            :func:`~.parameter_groups.parameter_groups`.
        clip_norm: Largest norm of the whole gradient; None does not clip.
        after_step: Called with the net after every optimizer step, without gradients, such as a
            constraint. One that is a module is saved with checkpoints; one with ``begin(net)``
            sees the initial net here.
        extra_splits: Names of splits of the data (``data.extra``) of which loss and accuracy are
            recorded too, as ``<name>_loss`` and ``<name>_acc``.

    Raises:
        ValueError: For an argument out of range.
    """

    extra_metrics: tuple[str, ...] = ()

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        accuracy: Accuracy,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        l2: float = 0.0,
        steps_per_call: str = "many",
        parameter_settings: Mapping[str, Mapping[str, Any]] | None = None,
        clip_norm: float | None = None,
        after_step: Callable[[nn.Module], None] | None = None,
        extra_splits: Sequence[str] = (),
    ) -> None:
        super().__init__(steps_per_call)
        self.net, self.loss, self.accuracy = net, loss, accuracy
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.l2 = require_float("l2", l2)
        self.parameter_settings = dict(parameter_settings or {})
        if clip_norm is not None:
            require_float("clip_norm", clip_norm, above=0.0)
        self.clip_norm = clip_norm
        self.after_step, self.extra_splits = after_step, tuple(extra_splits)
        if (begin := getattr(after_step, "begin", None)) is not None:
            begin(net)
        scores = [f"{name}_{score}" for name in self.extra_splits for score in ("loss", "acc")]
        self.extra_metrics = (*self.extra_metrics, *scores)
        self.latest_metrics: dict[str, float] = {}
        self.live_step: Step | None = None

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler if there is one."""
        optimizer = self._make_optimizer(self._optimized())
        if self._make_scheduler is None:
            return optimizer
        return [optimizer], [self._make_scheduler(optimizer)]

    def _optimized(self) -> Iterable[Any]:
        """Parameters, or groups of them, as the optimizer takes them."""
        if not self.parameter_settings:
            return self.parameters()
        trained = ((n, p) for n, p in self.named_parameters() if p.requires_grad)
        return parameter_groups(trained, self.parameter_settings)

    def on_fit_start(self) -> None:
        """Move the data to the device."""
        self.prepare_data_on_device(self.data)

    def check_data(self, data: TensorDataModule) -> None:
        """Refuse settings of data, which may not be there yet, that this module cannot learn from.

        Raises:
            ValueError: Naming the setting.
        """

    def check_splits(self, data: TensorDataModule) -> None:
        """Refuse data without the splits that are asked for.

        Raises:
            ValueError: Naming the setting.
        """
        if missing := [name for name in self.extra_splits if name not in data.extra]:
            known = ", ".join(data.extra) or "none"
            raise ValueError(f"model.extra_splits must be of {known} here, got {missing[0]!r}.")

    def prepare_data_on_device(self, data: TensorDataModule) -> None:
        """Put both splits on the device; where a batch is a whole split, plan shared work."""
        self.check_data(data)
        self.check_splits(data)
        self.train_batch = self._prepare(data.train, share=data.steps_per_epoch == 1)
        self.test_batch = self._prepare(data.test, share=True)
        recorded = data.recorded_train
        self.recorded_train = self._prepare(recorded, share=True) if recorded else self.train_batch
        self.extra_batches = {
            name: self._prepare(data.extra[name], share=True) for name in self.extra_splits
        }

    def _prepare(self, split: Split, share: bool) -> Batch:
        dtype = next(self.parameters()).dtype
        split = split.to(self.device, dtype)
        with evaluating(self.net):
            width = self.net(split.inputs[:1]).shape[-1]
        targets = self.loss.prepare(split.targets, width)
        if targets.is_floating_point():
            targets = targets.to(self.device, dtype)
        make_plan = getattr(self.net, "share", None) if share else None
        return Batch(split, targets, make_plan and make_plan(split.inputs))

    def step(self, batch: Batch, hooked: bool, observe: Callable[[], None] | None = None) -> None:
        """Zero the gradients, forward, backward, update."""
        optimizer = cast(Any, self.optimizers())
        if not hooked:
            optimizer = optimizer.optimizer
        optimizer.zero_grad()
        attempt = self._attempt(batch)
        objective = self._objective(attempt.loss, batch)
        if hooked:
            self.manual_backward(objective)
        else:
            objective.backward()
        if hooked or observe is not None:
            self.live_step = attempt.detached()
        if observe is not None:
            observe()
        if not hooked:
            self._clip()
        optimizer.step()
        if self.after_step is not None:
            with torch.no_grad():
                self.after_step(self.net)
        if self.live_step is not None:
            self.live_step = None
        if self._make_scheduler is not None:
            cast(LRScheduler, self.lr_schedulers()).step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip after callbacks saw the unscaled gradient; Lightning's wrapper calls this."""
        self._clip()

    def _clip(self) -> None:
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)

    def objective(self, batch: Batch) -> Tensor:
        """What a step on these samples minimises, at the present weights and modes."""
        return self._objective(self._attempt(batch).loss, batch)

    def gradient_step(self) -> Step:
        """A step on all training samples up to its update; the gradients stay in ``.grad``."""
        self.zero_grad()
        attempt = self._attempt(self.train_batch)
        self._objective(attempt.loss, self.train_batch).backward()
        return attempt.detached()

    def _attempt(self, batch: Batch) -> Step:
        outputs = self._forward(batch)
        targets = batch.loss_targets
        return Step(self.loss.mean(outputs, targets), outputs, targets)

    def _forward(self, batch: Batch) -> Tensor:
        if batch.plan is not None:
            return cast(Any, self.net).forward_shared(batch.plan)
        return self.net(batch.split.inputs)

    def _objective(self, loss: Tensor, batch: Batch) -> Tensor:
        """What is minimised: the loss by the weight of this process's share, and the penalty."""
        if batch.weight != 1.0:
            loss = loss * batch.weight
        return loss + self.l2 * squared_norm(list(self.parameters())) if self.l2 else loss

    def evaluation_metrics(self) -> dict[str, float]:
        """Loss and accuracy of both splits at the present weights, in evaluation mode.

        Within a full-batch step, those of the training set are the step's own outputs, unless the
        net computes something else in training (dropout, batch norm).
        """
        whole = self.steps_per_epoch == 1 and self.trainer.world_size == 1
        whole &= not differs_in_training(self.net)
        live = self.live_step if whole else None
        recorded = self.recorded_train
        train = self._scores(self.train_batch, live) if live else self.evaluate(recorded)
        test = self.evaluate(self.test_batch)
        names = ["train_loss", "train_acc", "test_loss", "test_acc"]
        scores = [*train, *test]
        for name, batch in self.extra_batches.items():
            names += [f"{name}_loss", f"{name}_acc"]
            scores += self.evaluate(batch)
        self.latest_metrics = dict(zip(names, scores, strict=True))
        return self.latest_metrics

    def training_samples(self) -> tuple[Tensor, Tensor]:
        """All inputs, and targets in the form that :attr:`loss` takes, on the device."""
        return self.train_batch.split.inputs, self.train_batch.loss_targets

    def evaluate(self, batch: Batch) -> tuple[float, float]:
        """Mean loss and accuracy in evaluation mode; the modules' modes are restored."""
        with evaluating(self.net):
            return self._scores(batch, self._attempt(batch))

    def _scores(self, batch: Batch, step: Step) -> tuple[float, float]:
        right = self.accuracy(step.outputs, batch.split.targets)
        return float(step.loss), int(right.sum()) / len(right)  # 9 of 10 is 0.9, not float32's
