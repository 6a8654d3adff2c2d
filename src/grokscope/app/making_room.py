"""Signals that ask a process to make room, where no run is under way to answer them."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from grokscope.callbacks.stop import Preempted, ending_signals, preemption_signal

TOGETHER_SECONDS = 1.0


def signals() -> list[int]:
    """Those that end a process, and the one that Slurm sends some time before."""
    asked = preemption_signal()
    return [*ending_signals(), *([] if asked is None else [asked])]


@contextmanager
def making_room() -> Iterator[None]:
    """These signals raise :class:`~grokscope.callbacks.Preempted` at once.

    Else one that comes while data are loaded or files closed would kill the process, or leave a
    job in Slurm that is never requeued. A run under way takes them over until it has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    leave = _Leave()
    previous = {number: signal.signal(number, leave) for number in signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Leave:
    """Raises once for signals that come together: a terminal and the parent may both send one."""

    def __init__(self) -> None:
        self._came = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        came, self._came = self._came, time.monotonic()
        if self._came - came > TOGETHER_SECONDS:
            raise Preempted(number)
