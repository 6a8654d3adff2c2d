"""A run that was stopped and goes on is byte for byte one that was not.

Every test compares a whole run folder with that of an uninterrupted run: all datasets and
attributes of the HDF5 files, ``metrics.csv``, what ``last.ckpt`` keeps, and the events of
``run.json``. The uninterrupted runs are made once a module.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from entry import ROOT, call
from same_run import assert_same, epochs_of, events, last
from torch.nn import functional

from grokscope.app import training
from grokscope.models import GrokkingModule
from grokscope.nets import MLP

MNIST = ROOT.parent / "shared" / "data" / "mnist"
LOOPS = ("many", "one")

BASE = (
    *("threads=1", "measures=full", "measures.probe=6", "measures.trajectory_window=4"),
    *("schedule.checkpoint=at 0", "thresholds.train=0.3", "thresholds.test=0.15"),
)
SCHEDULES = {  # in the sparse one the last epoch of most parts is not due
    "sparse": (
        *("schedule.metrics=every 4", "schedule.batch=at 1 5 6 9 18", "schedule.weight=every 3"),
        *("schedule.trajectory=every 2", "schedule.sample=log 4", "schedule.input=log 3"),
        "schedule.factor=every 8",
    ),
    "follow": (
        *("schedule.metrics=every 1", "schedule.batch=adaptive every 6 to every 1 above 0.2"),
        *("schedule.weight=adaptive log 5 to every 2 + every 7", "schedule.trajectory=every 1"),
        *("schedule.sample=adaptive every 7 to every 2 above 1", "schedule.input=log 3"),
        "schedule.factor=adaptive at 0 9 to every 5 above 1",
    ),
}
MODULAR = ("data.modulus=7", "net.widths=[14,12,7]")
DOSHI = (*MODULAR, "net.init_std.n_hidden=12")
NANDA = ("data.modulus=7", "net.d_model=8", "net.n_heads=2", "net.d_head=4", "net.d_mlp=12")
LEVI = ("data.d_in=12", "data.n_test=10", "model.optimizer.lr=0.1")
OMNIGROK = (
    *(f"data.data_dir={MNIST}", "data.train_images=t10k", "data.n_train=30", "data.n_test=20"),
    "net.widths=[784,6,5,10]",
)
MOMENTUM = "model.optimizer.momentum=0.9"
EXPERIMENTS = {  # each with the full batch or with mini-batches, the last of them a short one
    "quickstart": (*DOSHI, *SCHEDULES["follow"]),
    "doshi": (*DOSHI, "data.batch_size=9", *SCHEDULES["sparse"]),
    "nanda": (*NANDA, *SCHEDULES["follow"], "measures.top_k=5"),
    "nanda_small": (
        *(*NANDA, "data.batch_size=8", "model.l2=1e-3", "schedule.checkpoint=every 1"),
        *SCHEDULES["sparse"],
    ),
    "modulo_addition": (*MODULAR, MOMENTUM, *SCHEDULES["sparse"]),
    "modulo_addition_small": (
        *(*MODULAR, MOMENTUM, "model.optimizer.lr=0.5", "data.batch_size=15"),
        *SCHEDULES["follow"],
    ),
    "levi": (*LEVI, *SCHEDULES["follow"]),
    "levi_small": (*LEVI, "data.d_out=2", *SCHEDULES["sparse"]),
    "omnigrok": (*OMNIGROK, "data.batch_size=8", *SCHEDULES["follow"]),
    "omnigrok_small": (*OMNIGROK, "data.batch_size=null", *SCHEDULES["sparse"]),
}
EPOCHS = 22


def mini_batches(overrides: tuple[str, ...]) -> bool:
    return any(re.fullmatch(r"data\.batch_size=\d+", o) for o in overrides)


@pytest.fixture(scope="module", autouse=True)
def _without_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda run: None)
        yield


# -- running ------------------------------------------------------------------------------------


class Place:
    """A folder with one run, and the settings that it has throughout."""

    def __init__(self, log_dir: Path, *overrides: str) -> None:
        self.log_dir, self.overrides = log_dir, overrides

    @property
    def run(self) -> Path:
        (found,) = (path.parent for path in self.log_dir.glob("runs/*/*/run.json"))
        return found

    def train(self, epochs: int, *overrides: str) -> Path:
        where = (f"paths.log_dir={self.log_dir}", "name=run")
        length = f"trainer.max_epochs={epochs}"
        with signals_put_back():
            call("train", *where, *map(quoted, (*self.overrides, length, *overrides)))
        return self.run

    def checkpoint(self, epoch: int) -> str:
        return f"ckpt_path={self.run}/checkpoints/epoch_{epoch}.ckpt"

    def copy(self, log_dir: Path) -> Place:
        shutil.copytree(self.log_dir, log_dir)
        return Place(log_dir, *self.overrides)


def quoted(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if " " in value else override


@contextmanager
def signals_put_back() -> Iterator[None]:
    """Lightning ignores SIGINT for good after a KeyboardInterrupt."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Callable[..., Place]:
    """``uninterrupted(*overrides)``: a finished run, made once a module for each settings."""
    made: dict[tuple[str, ...], Place] = {}

    def make(*overrides: str, tables: int = 12) -> Place:
        if overrides not in made:
            made[overrides] = Place(tmp_path_factory.mktemp("whole") / "logs", *overrides)
            made[overrides].train(EPOCHS)
            assert_plausible(made[overrides].run, tables)
        return made[overrides]

    return make


@contextmanager
def interrupted(way: str, step: int) -> Iterator[None]:
    """During the ``step``-th optimizer step of a process (from 1), after the backward pass."""
    whole_step, done = GrokkingModule._objective, 0

    def objective(self: Any, *arguments: Any) -> torch.Tensor:
        nonlocal done
        done += 1
        if done == step:
            if way == "KeyboardInterrupt":
                raise KeyboardInterrupt
            if way == "error":
                raise RuntimeError("a bug")
            os.kill(os.getpid(), getattr(signal, way))
        return whole_step(self, *arguments)

    code = {"KeyboardInterrupt": 130, "SIGINT": 130, "SIGTERM": 143, "error": 1}[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GrokkingModule, "_objective", objective)
        with pytest.raises((SystemExit, RuntimeError)) as end:
            yield
    assert done >= step
    assert getattr(end.value, "code", 1) == code


# -- comparing ------------------------------------------------------------------------------------


def assert_plausible(run: Path, n_tables: int) -> None:
    """What is compared with has all tables, and no epoch twice."""
    tables = epochs_of(run)
    assert len([name for name in tables if "complexity" not in name]) == n_tables
    assert all(found and (np.diff(found) > 0).all() for found in tables.values())
    assert tables["metrics.h5:epoch"][-1] == EPOCHS
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


# -- every experiment, cut at random ------------------------------------------------------------


def settings_of(experiment: str) -> tuple[str, ...]:
    if experiment.startswith("omnigrok") and not MNIST.is_dir():
        pytest.skip("needs MNIST in the reference folder beside the repository")
    return (f"experiment={experiment}", *BASE, *EXPERIMENTS[experiment])


def steps_in(experiment: str, whole: Path) -> int:
    steps, rest = divmod(last(whole)["global_step"], EPOCHS)
    assert rest == 0
    assert (steps > 1) == mini_batches(EXPERIMENTS[experiment])
    return steps


def shorter_then_raised(place: Place, draw: random.Random, steps: int, *loop: str) -> None:
    """A finished run, of which ``trainer.max_epochs`` is raised."""
    place.train(draw.randint(1, EPOCHS - 1), *loop)
    place.train(EPOCHS, "ckpt_path=last", *loop)


def interrupted_and_gone_on(place: Place, draw: random.Random, steps: int, *loop: str) -> None:
    """Cut in mid-pass, with rows that are newer than the checkpoint."""
    cut = draw.randint(0, EPOCHS - 2)
    step = draw.randint(1 + cut * steps, EPOCHS * steps)
    with interrupted(draw.choice(["KeyboardInterrupt", "error"]), step):
        place.train(EPOCHS, f"schedule.checkpoint=at {cut}", *loop)
    place.train(EPOCHS, f"run={place.run}", *loop)


def gone_back_twice(place: Place, draw: random.Random, steps: int, *loop: str) -> None:
    """A finished run from an old checkpoint on, to another end, and from a new one on."""
    first, second, end = sorted(draw.sample(range(EPOCHS), 3))
    at = f"schedule.checkpoint=at {first} {second}"
    place.train(end, at, *loop)
    place.train(end, at, *loop, place.checkpoint(first))
    place.train(EPOCHS, *loop, place.checkpoint(second))


WAYS = (shorter_then_raised, interrupted_and_gone_on)


def go_on_and_compare(experiment, loop, way, seed, uninterrupted, tmp_path) -> None:
    whole = uninterrupted(*settings_of(experiment))
    place = Place(tmp_path / "logs", *whole.overrides)
    draw = random.Random(f"{experiment} {loop} {way.__name__} {seed}")
    way(place, draw, steps_in(experiment, whole.run), f"model.steps_per_call={loop}")
    assert_same(place.run, whole.run, history=False)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_run_that_was_cut_equals_an_uninterrupted_one(
    experiment, uninterrupted, tmp_path
) -> None:
    """Each network and task once by either loop."""
    number = list(EXPERIMENTS).index(experiment)
    way = WAYS[number // 2 % 2 ^ number % 2]
    go_on_and_compare(experiment, LOOPS[number % 2], way, 0, uninterrupted, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", [*WAYS, gone_back_twice], ids=lambda way: way.__name__)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_wherever_it_was_cut(experiment, loop, way, seed, uninterrupted, tmp_path) -> None:
    go_on_and_compare(experiment, loop, way, seed, uninterrupted, tmp_path)


# -- chosen cuts --------------------------------------------------------------------------------

DROPOUT = (
    *("experiment=doshi", *BASE, *DOSHI, "data.train_fraction=0.6", *SCHEDULES["follow"]),
    *("measures.trajectory_window=7", "schedule.checkpoint=every 1"),
)


@pytest.fixture
def dropout(monkeypatch) -> None:
    """Random numbers in every step of an :class:`MLP`; ``DROPOUT`` is used with it only."""

    def through(self: MLP, layers: list, x: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            x = layer(functional.dropout(x * x, 0.2, self.training))
        return x

    monkeypatch.setattr(MLP, "_through", through)


def stretches(epochs: list[int], loud: bool) -> list[int]:
    """Cuts before which, and after which, every epoch is due (or neither of them)."""
    due = set(epochs)
    inner = range(2, EPOCHS - 2)
    return [e for e in inner if all((n in due) == loud for n in (e - 2, e - 1, e, e + 1))]


CUTS: dict[str, Callable[[Path], int]] = {
    "at the very start": lambda run: 0,
    "with three of seven gradients in the window": lambda run: 1,
    "dense": lambda run: stretches(epochs_of(run)["metrics.h5:gop/batch/epoch"], loud=True)[0],
    "coarse": lambda run: stretches(epochs_of(run)["metrics.h5:gop/batch/epoch"], loud=False)[0],
    "after memorising": lambda run: events(run)["memorised"] + 1,
    "at the last pass": lambda run: EPOCHS - 1,
}


@pytest.mark.parametrize(("cut", "loop"), [*zip(CUTS, LOOPS * 3, strict=True)])
def test_a_finished_run_goes_on_from_any_of_its_checkpoints(
    cut, loop, dropout, uninterrupted, tmp_path
) -> None:
    whole = uninterrupted(*DROPOUT, "data.batch_size=10")
    place = whole.copy(tmp_path / "logs")
    epoch = CUTS[cut](whole.run)
    assert sum(len(found) for found in epochs_of(place.run).values()) > 100
    place.train(EPOCHS, place.checkpoint(epoch), f"model.steps_per_call={loop}")
    assert_same(place.run, whole.run)


@pytest.mark.parametrize("loop", ["many", pytest.param("one", marks=pytest.mark.slow)])
def test_random_numbers_go_on_with_full_batches(loop, dropout, uninterrupted, tmp_path) -> None:
    whole = uninterrupted(*DROPOUT, "data.batch_size=null")
    place = Place(tmp_path / "logs", *whole.overrides, f"model.steps_per_call={loop}")
    with interrupted("KeyboardInterrupt", 11):
        place.train(EPOCHS, "schedule.checkpoint=at 0 7")
    assert epochs_of_live(place.run)[-1] == 9
    place.train(EPOCHS, "run=last")
    assert_same(place.run, whole.run)


def epochs_of_live(run: Path) -> list[int]:
    """Epochs of the top level of a file that was not finished."""
    with h5py.File(run / "metrics.h5", "r", locking=False) as file:
        return file["epoch"][: int(file["index/rows"][0])].tolist()


@pytest.mark.parametrize(("epoch", "loop"), [(1, "many"), (2, "one")])
def test_a_warmup_goes_on_within_it(epoch, loop, uninterrupted, tmp_path) -> None:
    """Three steps an epoch; the rate rises over ten."""
    whole = uninterrupted(*settings_of("nanda_small"))
    place = whole.copy(tmp_path / "logs")
    content = torch.load(place.run / "checkpoints" / f"epoch_{epoch}.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(3e-4 * epoch)
    place.train(EPOCHS, place.checkpoint(epoch), f"model.steps_per_call={loop}")
    assert_same(place.run, whole.run, history=False)


def test_closing_rows_are_dropped_each_time_the_end_is_put_off(uninterrupted, tmp_path) -> None:
    """Also where the next row is some epochs later, and by either loop in turns."""
    whole = uninterrupted(*settings_of("doshi"))
    place, resume = Place(tmp_path / "logs", *whole.overrides), []
    for end, loop in ((7, "many"), (13, "one")):
        assert all(end not in found for found in epochs_of(whole.run).values())
        place.train(end, f"model.steps_per_call={loop}", *resume)
        with h5py.File(place.run / "metrics.h5", "r") as file:
            assert file["epoch"][-1] == end
            assert file.attrs["final"]
        resume = ["ckpt_path=last"]
    place.train(EPOCHS, "model.steps_per_call=many", *resume)
    assert_same(place.run, whole.run)


@pytest.mark.parametrize(
    ("way", "loop"),
    [
        *[("SIGINT", "many"), ("SIGTERM", "one")],
        pytest.param("SIGINT", "one", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "many", marks=pytest.mark.slow),
    ],
)
def test_a_signal_between_two_mini_batches_loses_nothing(
    way, loop, uninterrupted, tmp_path
) -> None:
    whole = uninterrupted(*settings_of("doshi"))
    place = Place(tmp_path / "logs", *whole.overrides, f"model.steps_per_call={loop}")
    with interrupted(way, 23):  # in the second of three steps of pass 7
        place.train(EPOCHS, "schedule.checkpoint=at 5 8 10")
    assert json.loads((place.run / "run.json").read_text())["status"] == "stopped"
    place.train(EPOCHS, f"run={place.run}")
    assert_same(place.run, whole.run)


@pytest.mark.parametrize("end", [14, EPOCHS])
def test_a_run_that_went_back_and_was_interrupted_goes_on_from_there(
    end, uninterrupted, tmp_path
) -> None:
    """Not from a checkpoint that is newer than the rows there are."""
    whole = uninterrupted(*settings_of("doshi"))
    place = Place(tmp_path / "logs", *whole.overrides, "schedule.checkpoint=at 4 12")
    place.train(14)
    with interrupted("KeyboardInterrupt", 3 * 3 + 2):
        place.train(end, place.checkpoint(4))
    assert epochs_of_live(place.run)[-1] < 8
    place.train(EPOCHS, "run=last")
    assert_same(place.run, whole.run)


def test_the_newest_checkpoint_is_gone_on_from(uninterrupted, tmp_path) -> None:
    """``last.ckpt`` of an earlier part may be older than ``epoch_<n>.ckpt``."""
    whole = uninterrupted(*settings_of("doshi"))
    place = Place(tmp_path / "logs", *whole.overrides, "schedule.checkpoint=at 6 12")
    place.train(6)
    with interrupted("KeyboardInterrupt", 3 * 8):
        place.train(EPOCHS, "run=last")
    assert last(place.run)["global_step"] == 3 * 6
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        start = GrokkingModule.on_train_start
        patch.setattr(
            GrokkingModule,
            "on_train_start",
            lambda self: (steps.append(self.trainer.global_step), start(self))[1],
        )
        place.train(EPOCHS, "run=last")
    assert_same(place.run, whole.run)
    assert steps == [3 * 12]


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_in_other_precisions(precision, loop, uninterrupted, tmp_path) -> None:
    settings = ("experiment=doshi", *BASE, *DOSHI, "measures.kinds=[batch,weight,trajectory]")
    whole = uninterrupted(
        *settings, "data.batch_size=9", f"trainer.precision={precision}", tables=8
    )
    place = Place(tmp_path / "logs", *whole.overrides, f"model.steps_per_call={loop}")
    place.train(9)
    place.train(EPOCHS, "run=last")
    assert_same(place.run, whole.run, history=False)
