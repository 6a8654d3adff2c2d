from __future__ import annotations

import signal

import pytest
from lightning import Callback
from small import data, module, trainer

from grokscope.callbacks import StopOnSignal


class PressCtrlC(Callback):
    """The first time that a hook is called in the fourth pass."""

    def __init__(self, hook: str) -> None:
        self.pressed = False
        setattr(self, hook, self._press)

    def next_due(self, epoch: int) -> int:
        return epoch

    def _press(self, trainer, *args) -> None:
        if trainer.current_epoch == 3 and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("steps", ["many", "one"])
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_end"])
def test_no_pass_is_cut_short_wherever_ctrl_c_comes(steps, hook):
    before = signal.getsignal(signal.SIGINT)
    model, task, stop = module(steps), data(batch_size=5), StopOnSignal()
    done = trainer(100, [stop, PressCtrlC(hook)])
    done.fit(model, datamodule=task)
    assert stop.interrupted
    assert done.current_epoch == 4
    assert done.global_step == 4 * task.steps_per_epoch
    assert signal.getsignal(signal.SIGINT) is before


def test_nobody_s_run_stops_unasked():
    done = trainer(7, [StopOnSignal()])
    done.fit(module(), datamodule=data())
    assert done.current_epoch == 7
