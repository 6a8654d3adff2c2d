"""Runs whose measures follow the curves, and say what they show."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from small import data, module, trainer

from grokscope import GOPCallback, Run
from grokscope.callbacks import Checkpoints, waiting
from grokscope.callbacks.schedule import Schedule, log, parse_schedule
from grokscope.models import GrokkingModule
from grokscope.store import reopen

ADAPTIVE = {
    "metrics": "every 2",
    "batch": "adaptive log 10 to every 3",
    "weight": "adaptive log 5 to every 1",
    "trajectory": "adaptive log 10 to every 2 above 1",
    "factor": "adaptive log 3 to every 5",
}
KINDS = ("batch", "weight", "trajectory")
EPOCHS = 300


def curves(epoch: int) -> dict[str, float]:
    """Memorises at 19, rises around 100; a sine keeps rows apart."""
    share = 1 / (1 + math.exp(-(math.log10(1 + epoch) - math.log10(100)) / 0.02))
    train = min(1.0, epoch / 19)
    return {
        "train_loss": 2.0 - train,
        "test_loss": 3.0 * (1 - share) + 0.01 * math.sin(epoch),
        "train_acc": train,
        "test_acc": 0.1 + 0.9 * share,
    }


class Scripted(GrokkingModule):
    """Trains as any other, and reports curves drawn by hand."""

    curves = staticmethod(curves)

    def on_train_start(self) -> None:
        super().on_train_start()
        self.steps_done = self.trainer.current_epoch * self.steps_per_epoch

    def step(self, *args, **kwargs) -> None:
        super().step(*args, **kwargs)
        self.steps_done += 1

    def evaluation_metrics(self) -> dict[str, float]:
        return self.curves(self.steps_done // self.steps_per_epoch)


def scripted(steps_per_call: str = "many", dropout: float = 0.0) -> Scripted:
    model = module(steps_per_call, dropout)
    model.__class__ = Scripted
    return model


def callback(folder, **settings) -> GOPCallback:
    arguments = {"kinds": KINDS, "schedule": ADAPTIVE, "trajectory_window": 4}
    return GOPCallback(**arguments | settings, output_dir=folder)


def fit(observer, epochs=EPOCHS, *, model=None, batch_size=None, ckpt_path=None, others=()):
    torch.manual_seed(1)
    done = trainer(epochs, [c for c in (observer, *others) if c])
    model = model or scripted()
    done.fit(model, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model, done


def due(schedule: Schedule, metrics: Schedule, epochs: int = EPOCHS) -> list[int]:
    """Epochs at which a measure is due by its definition, one epoch after the other."""
    found = []
    for epoch in range(epochs):
        if schedule.due(epoch):
            found.append(epoch)
        if metrics.due(epoch):
            row = curves(epoch)
            seen = epoch, row["test_acc"], row["test_loss"]
            schedule, metrics = schedule.observe(*seen), metrics.observe(*seen)
    return found


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
@pytest.mark.parametrize("metrics", ["every 1", "adaptive log 20 to every 1"])
def test_rows_come_where_the_curves_of_the_earlier_rows_ask_for_them(
    steps_per_call: str, metrics: str, tmp_path
) -> None:
    epochs = EPOCHS if steps_per_call == "many" else 150
    observer = callback(tmp_path, schedule=ADAPTIVE | {"metrics": metrics})
    fit(observer, epochs, model=scripted(steps_per_call))
    run, follow = Run.open(tmp_path), parse_schedule("", metrics)
    for name in ("batch", "weight", "trajectory", "factor"):
        expected = due(parse_schedule("", ADAPTIVE[name]), follow, epochs)
        assert run.epochs(name).tolist() == expected
    weight = set(run.epochs("weight"))
    assert weight >= set(range(97, 120))
    assert {e for e in weight if e < 70 or e > 200} == {
        e for e in log(5).epochs(epochs) if e < 70 or e > 200
    }


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_training_is_bit_equal_while_everything_follows(
    steps_per_call: str, batch_size, tmp_path
) -> None:
    epochs = 60
    runs = [
        fit(observer, epochs, model=scripted(steps_per_call, 0.3), batch_size=batch_size)
        for observer in (None, callback(tmp_path))
    ]
    for a, b in zip(*(model.parameters() for model, _ in runs), strict=True):
        assert torch.equal(a, b)
    states = [done.optimizers[0].state.values() for _, done in runs]
    for a, b in zip(*states, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def rows_and_events(folder) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    run = Run.open(folder)
    return dict(run.metrics), run.info["events"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Rows and events of uninterrupted runs, by the size of their batches."""
    found = {}
    for batch_size in (None, 8):
        folder = tmp_path_factory.mktemp("whole")
        fit(callback(folder), batch_size=batch_size)
        found[batch_size] = rows_and_events(folder)
    return found


@pytest.mark.parametrize(
    ("batch_size", "stop", "killed"),
    [
        (None, 1, False),
        (None, 17, True),
        (None, 97, True),
        (None, 110, False),
        (None, 200, False),
        (8, 97, False),
        (8, 110, True),
    ],
)
def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(
    batch_size, stop: int, killed: bool, whole, tmp_path
) -> None:
    _, first = fit(callback(tmp_path / "part"), stop, batch_size=batch_size)
    first.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    if killed:  # thirty more epochs that the checkpoint does not know, then a kill
        for path in (tmp_path / "part").iterdir():
            path.unlink()
        observer = callback(tmp_path / "part")
        observer.on_train_end = lambda *args: observer._rows.abandon()
        fit(observer, stop + 30, batch_size=batch_size)
    last = tmp_path / "last.ckpt"
    fit(callback(tmp_path / "part"), batch_size=batch_size, ckpt_path=last)
    (expected, events), (found, others) = whole[batch_size], rows_and_events(tmp_path / "part")
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], err_msg=name)
    assert events == others
    assert len(events) == 3


def test_the_checkpoint_knows_rows_that_wait_whatever_the_order_of_the_callbacks(
    tmp_path,
) -> None:
    saved = Checkpoints(tmp_path / "checkpoints", "at 105", last_every_seconds=1e9)
    done = trainer(EPOCHS, [saved, callback(tmp_path / "whole")])
    torch.manual_seed(1)
    done.fit(scripted(), datamodule=data())
    part = callback(tmp_path / "part")
    fit(part, ckpt_path=tmp_path / "checkpoints" / "epoch_105.ckpt")
    whole, part = (Run.open(tmp_path / n).metrics for n in ("whole", "part"))
    for group in ("", "gop/weight/", "gop/trajectory/"):
        later = whole[f"{group}epoch"] >= 105
        assert later.any()
        for name in ("epoch", "train_loss") if not group else ("epoch", "trace", "rank"):
            np.testing.assert_array_equal(whole[group + name][later], part[group + name])


def test_more_rows_than_there_was_room_for_are_all_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reopen, "FIRST_ROOM", 3)
    monkeypatch.setattr(waiting, "QUEUE_ROWS", 3)
    fit(callback(tmp_path, schedule="adaptive log 5 to every 1"))
    run = Run.open(tmp_path)
    assert len(run.epochs("batch")) > 50
    assert run.epochs("factor").tolist() == run.epochs("weight").tolist()
    assert np.isfinite(run.metrics["gop/trajectory/trace"]).all()


def test_a_second_fit_begins_anew(tmp_path) -> None:
    observer = callback(tmp_path / "first")
    fit(observer)
    observer.output_dir = tmp_path / "second"
    fit(observer)
    (first, events), (second, others) = (
        rows_and_events(tmp_path / name) for name in ("first", "second")
    )
    assert events == others
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.refusal
def test_checkpoints_cannot_follow_curves(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"schedule.checkpoint must name epochs that are known"):
        Checkpoints(tmp_path, "log 5 + adaptive")


# -- events ----------------------------------------------------------------------------------


class Alerts(DummyLogger):
    """A logger with the alerts of Weights & Biases."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.told: list[tuple[str, str]] = []
        self.fail = fail
        self._experiment = SimpleNamespace(alert=self.alert)

    def alert(self, title: str, text: str) -> None:
        if self.fail:
            raise ConnectionError("no network")
        self.told.append((title, text))


def watched(folder, epochs=EPOCHS, *, loggers=(), ckpt_path=None, **settings):
    observer = callback(folder, kinds=(), schedule="every 1", **settings)
    torch.manual_seed(1)
    done = trainer(epochs, [observer])
    done.loggers = list(loggers)
    done.fit(scripted(), datamodule=data(), ckpt_path=ckpt_path, weights_only=True)
    return done


def lines(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "grokscope.callbacks.events"]


@pytest.fixture(autouse=True)
def _log_level(caplog) -> None:
    caplog.set_level(logging.INFO)


def test_each_event_is_told_once_everywhere(tmp_path, caplog) -> None:
    logger = Alerts()
    watched(tmp_path, loggers=[logger, DummyLogger()])
    run = Run.open(tmp_path)
    times = run.grokking()
    events = json.loads((tmp_path / "run.json").read_text())["events"]
    assert (events["memorised"], events["generalised"]) == (times.memorised, times.generalised)
    assert events["memorised"] < events["onset"] < events["generalised"]
    assert lines(caplog) == [
        "Memorised at epoch 19: train accuracy >= 0.99.",
        f"Test accuracy begins to rise at epoch {events['onset']}.",
        f"Generalised at epoch {times.generalised}: test accuracy >= 0.99.",
    ]
    titles = ["Memorised", "Onset", "Generalised"]
    assert logger.told == list(zip(titles, lines(caplog), strict=True))


def test_a_failing_alert_is_a_line_in_the_log(tmp_path, caplog) -> None:
    done = watched(tmp_path, loggers=[Alerts(fail=True)])
    assert done.current_epoch == EPOCHS
    assert Run.open(tmp_path).status == "finished"
    assert "No alert through Alerts: no network" in lines(caplog)


@pytest.mark.parametrize("patience", [0, 40])
@pytest.mark.parametrize("thresholds", [None, {"test": 0.5}, {"train": 0.5, "test": 1.0}])
def test_events_agree_with_the_finished_run(patience: int, thresholds, tmp_path) -> None:
    watched(tmp_path, thresholds=thresholds, patience=patience)
    run = Run.open(tmp_path)
    times = run.grokking(**{"train": 0.99, "test": 0.99} | (thresholds or {}), patience=patience)
    found = {"memorised": times.memorised, "generalised": times.generalised}
    events = {n: e for n, e in run.info["events"].items() if n != "onset"}
    assert events == {name: epoch for name, epoch in found.items() if epoch is not None}


@pytest.mark.parametrize("stop", [10, 80, 105, 200])
@pytest.mark.parametrize("older", [0, 60])
def test_nothing_is_told_twice_when_a_run_goes_on(stop: int, older: int, tmp_path, caplog) -> None:
    """From the checkpoint at the stop, and from one so many epochs before it."""
    before = max(1, stop - older)
    checkpoint = watched(tmp_path / "other", before)
    checkpoint.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    caplog.clear()
    logger = Alerts()
    watched(tmp_path / "run", stop, loggers=[logger])
    watched(tmp_path / "run", loggers=[logger], ckpt_path=tmp_path / "last.ckpt")
    assert len(lines(caplog)) == len(set(lines(caplog))) == 3
    assert len(logger.told) == 3
    assert set(Run.open(tmp_path / "run").info["events"]) == {"memorised", "onset", "generalised"}


@pytest.mark.parametrize(
    ("stop", "end", "left"), [(97, 105, {"memorised", "onset"}), (5, 10, set())]
)
def test_an_event_that_the_resumed_run_does_not_repeat_is_taken_back(
    stop: int, end: int, left: set[str], tmp_path
) -> None:
    checkpoint = watched(tmp_path / "other", stop)
    checkpoint.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    watched(tmp_path / "run", 200)
    assert "generalised" in Run.open(tmp_path / "run").info["events"]
    watched(tmp_path / "run", end, ckpt_path=tmp_path / "last.ckpt")
    assert set(Run.open(tmp_path / "run").info["events"]) == left


def test_other_thresholds_after_a_stop_count_from_the_first_row(tmp_path) -> None:
    first = watched(tmp_path, 200)
    first.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    thresholds = {"train": 0.5, "test": 0.6}
    watched(tmp_path, ckpt_path=tmp_path / "last.ckpt", thresholds=thresholds)
    run = Run.open(tmp_path)
    times, events = run.grokking(**thresholds), run.info["events"]
    assert (events["memorised"], events["generalised"]) == (times.memorised, times.generalised)
    assert times.memorised < 19


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": {"trian": 0.9}}, "thresholds must be one of train, test, got 'trian'"),
        ({"thresholds": 0.9}, "thresholds must map train and test to accuracies, got 0.9"),
        ({"thresholds": {"test": 2}}, "thresholds.test must be a number > 0 and <= 1, got 2"),
        ({"patience": 1.5}, "patience must be an integer >= 0, got 1.5"),
        ({"trajectory_window": 0}, "trajectory_window must be an integer >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GOPCallback(**arguments)
