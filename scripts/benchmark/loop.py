"""Our training loop beside a bare PyTorch loop, and beside the published one.

python scripts/benchmark/loop.py [--quick]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, Trainer
from published import PublishedLoop
from timing import (
    Stopwatch,
    interleaved,
    median_ratio,
    milliseconds,
    table,
    verdict,
    write_section,
)

from grokscope import GOPCallback
from grokscope.data import ModularDataModule, TensorDataModule
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, CrossEntropy, Loss, SquaredError
from grokscope.models.memory import keep_freed_memory
from grokscope.models.schedulers import linear_warmup
from grokscope.nets import MLP, OneLayerTransformer

NEVER = "at 0"
NOTE = (
    "The bare loop uses the same net, its fast forward, and the same optimizer. What `batch` and "
    "`weight` add is, in this order, the copy and the metrics of the gradient, the float64 "
    "eigenvalues of nine matrices of up to 128 rows at every tenth epoch, and writing the row."
)


class Task:
    """A net, its data, its loss and its optimizer."""

    def __init__(
        self, data: TensorDataModule, net: Callable[[], torch.nn.Module], loss: Loss, warmup: bool
    ) -> None:
        data.setup()
        self.data, self.net, self.loss, self.warmup = data, net, loss, warmup
        settings = {"lr": 1e-3, "weight_decay": 1.0, "betas": (0.9, 0.98)}
        self.optimizer = partial(torch.optim.AdamW, **settings)

    def bare(self, epochs: int) -> float:
        """Seconds an epoch of a loop with nothing around it."""
        net, split = self.net(), self.data.train
        optimizer = self.optimizer(net.parameters())
        scheduler = linear_warmup(optimizer, 10) if self.warmup else None
        plan = net.share(split.inputs)
        targets = self.loss.prepare(split.targets, net(split.inputs[:1]).shape[1])
        begun = time.perf_counter()
        for _ in range(epochs):
            optimizer.zero_grad()
            outputs = net(split.inputs) if plan is None else net.forward_shared(plan)
            self.loss.mean(outputs, targets).backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
        return (time.perf_counter() - begun) / epochs

    def ours(self, epochs: int, *callbacks: Callback) -> float:
        """Seconds an epoch under our module and Lightning's trainer."""
        watch = Stopwatch()
        scheduler = partial(linear_warmup, steps=10) if self.warmup else None
        model = GrokkingModule(self.net(), self.loss, ArgmaxAccuracy(), self.optimizer, scheduler)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            callbacks=[watch, *callbacks],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(model, datamodule=self.data)
        return watch.seconds / epochs

    def measured(self, epochs: int, kinds: tuple[str, ...], **schedule: str) -> float:
        """As :meth:`ours`, with the GOP callback."""
        with tempfile.TemporaryDirectory() as folder:
            callback = GOPCallback(kinds, schedule, output_dir=Path(folder) / "run")
            return self.ours(epochs, callback)


class EveryHundredth(Callback):
    """Wants the hooks at every 100th epoch, as a sparse schedule does: K = 100."""

    def next_due(self, epoch: int) -> int:
        return -(-epoch // 100) * 100


def nanda() -> Task:
    data = ModularDataModule(113, "add", 0.3, "tokens", "python")
    return Task(data, lambda: OneLayerTransformer(seed=0), CrossEntropy(), warmup=True)


def tiny() -> Task:
    data = ModularDataModule(7, "add", 0.5, "one_hot")
    net = partial(MLP, (14, 32, 7), "quadratic", bias=False, init_std=0.2, seed=0)
    return Task(data, net, SquaredError(), warmup=False)


def published(task: Task, epochs: int) -> float:
    loop = PublishedLoop(task.data, task.net())
    begun = time.perf_counter()
    for _ in range(epochs):
        loop.epoch()
    return (time.perf_counter() - begun) / epochs


def nanda_rows(epochs: int, repeats: int) -> list[list[str]]:
    task = nanda()
    gop = {"metrics": NEVER, "batch": "every 1", "weight": "every 10", "factor": NEVER}
    times = interleaved(
        {
            "bare": lambda: task.bare(epochs),
            "off": lambda: task.ours(epochs),
            "gop": lambda: task.measured(epochs, ("batch", "weight"), **gop),
            "losses": lambda: task.measured(epochs, (), metrics="every 1"),
            "published": lambda: published(task, max(3, epochs // 10)),
        },
        repeats,
    )
    off, on = (median_ratio(times, name, "bare") for name in ("off", "gop"))
    faster = median_ratio(times, "published", "losses")
    cells = {
        "bare": ("bare loop", ""),
        "off": ("ours, measures off", f"{off:.3f} of bare ({verdict(off, 1.05)})"),
        "gop": (
            "ours, `batch` at every epoch, `weight` at every tenth",
            f"{on:.3f} of bare ({verdict(on, 1.10)})",
        ),
        "losses": (
            "ours, train and test loss at every epoch",
            f"published / ours = {faster:.1f} ({verdict(faster, 5, at_most=False)})",
        ),
        "published": ("the published way: train and test loss at every epoch", ""),
    }
    return [["p = 113 transformer", c[0], milliseconds(times[n]), c[1]] for n, c in cells.items()]


def tiny_rows(epochs: int, repeats: int) -> list[list[str]]:
    task, threads = tiny(), torch.get_num_threads()
    torch.set_num_threads(1)
    times = interleaved(
        {
            "bare": lambda: task.bare(epochs),
            "off": lambda: task.ours(epochs, EveryHundredth()),
        },
        repeats,
    )
    torch.set_num_threads(threads)
    ratio = median_ratio(times, "off", "bare")
    name = "tiny MLP, one thread"
    return [
        [name, "bare loop", milliseconds(times["bare"]), ""],
        [
            name,
            "ours, measures off, K = 100",
            milliseconds(times["off"]),
            f"{ratio:.3f} of bare ({verdict(ratio, 1.15)})",
        ],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats, for a test")
    quick = parser.parse_args().quick
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    keep_freed_memory()
    rows = nanda_rows(*((5, 1) if quick else (100, 9)))
    rows += tiny_rows(*((200, 1) if quick else (4000, 9)))
    text = table(["net", "loop", "ms an epoch, median (range)", "ratio, median of pairs"], rows)
    write_section("loop", "The training loop", f"{text}\n\n{NOTE}")


if __name__ == "__main__":
    main()
