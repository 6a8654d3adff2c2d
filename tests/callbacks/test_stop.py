from __future__ import annotations

import signal
import time

import pytest
from lightning import Callback
from small import data, module, trainer

from grokscope.callbacks import Preempted, StopOnSignal


class Asks(Callback):
    """Sends a signal the first time that a hook is called in the fourth pass."""

    def __init__(self, hook: str, number: int = signal.SIGINT) -> None:
        self.number, self.pressed = number, False
        setattr(self, hook, self._press)

    def next_due(self, epoch: int) -> int:
        return epoch

    def _press(self, trainer, *args) -> None:
        if trainer.current_epoch == 3 and not self.pressed:
            self.pressed = True
            signal.raise_signal(self.number)


@pytest.mark.parametrize("steps", ["many", "one"])
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_end"])
def test_no_pass_is_cut_short_wherever_ctrl_c_comes(steps, hook):
    before = signal.getsignal(signal.SIGINT)
    model, task, stop = module(steps), data(batch_size=5), StopOnSignal()
    done = trainer(100, [stop, Asks(hook)])
    done.fit(model, datamodule=task)
    assert stop.interrupted
    assert done.current_epoch == 4
    assert done.global_step == 4 * task.steps_per_epoch
    assert signal.getsignal(signal.SIGINT) is before


NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)


@pytest.fixture
def handlers():
    """Of all signals, as they were; put back when the test is over."""
    before = {number: signal.getsignal(number) for number in (*NUMBERS, signal.SIGALRM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_a_process_that_made_room_is_not_ended_by_its_alarm(handlers, number):
    done = trainer(100, [StopOnSignal(), Asks("on_train_epoch_start", number)])
    with pytest.raises(Preempted) as end:
        done.fit(module(), datamodule=data())
    assert end.value.signal == number
    assert done.current_epoch == 3  # of the fourth pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_the_end_of_the_terminal_is_like_sigterm(handlers):
    assert (Preempted(signal.SIGHUP).code, Preempted(signal.SIGHUP).status) == (129, "stopped")
    assert (Preempted(signal.SIGTERM).code, Preempted(signal.SIGTERM).status) == (143, "stopped")
    assert (Preempted(signal.SIGUSR2).code, Preempted(signal.SIGUSR2).status) == (75, "preempted")


def test_nohup_holds(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = trainer(7, [StopOnSignal(), Asks("on_train_epoch_start", signal.SIGHUP)])
    done.fit(module(), datamodule=data())
    assert done.current_epoch == 7
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_pass_that_takes_too_long_is_given_up(handlers):
    class Slow(Callback):
        def on_train_batch_start(self, trainer, *args) -> None:
            if trainer.current_epoch == 3:
                time.sleep(60)

    asks = Asks("on_train_epoch_start", signal.SIGUSR2)
    done = trainer(100, [StopOnSignal(patience_seconds=0.1), asks, Slow()])
    before = time.monotonic()
    with pytest.raises(Preempted):
        done.fit(module("many"), datamodule=data(batch_size=5))
    assert time.monotonic() - before < 30
    assert signal.getsignal(signal.SIGALRM) is handlers[signal.SIGALRM]


class Fails(Callback):
    def on_train_epoch_end(self, *args) -> None:
        raise RuntimeError("a bug")


def test_an_error_gives_the_signals_back(handlers):
    stop = StopOnSignal()
    with pytest.raises(RuntimeError, match="a bug"):
        trainer(100, [stop, Fails()]).fit(module(), datamodule=data())
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_second_training_with_the_same_callback_is_not_stopped_by_the_first_ctrl_c():
    stop = StopOnSignal()
    trainer(100, [stop, Asks("on_train_epoch_start")]).fit(module(), datamodule=data())
    again = trainer(7, [stop])
    again.fit(module(), datamodule=data())
    assert again.current_epoch == 7
    assert not stop.interrupted


def test_nobody_s_run_stops_unasked():
    done = trainer(7, [StopOnSignal()])
    done.fit(module(), datamodule=data())
    assert done.current_epoch == 7
