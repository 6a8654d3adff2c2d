"""Signals that ask a process to make room, where no run is under way to answer them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from grokscope.callbacks.stop import Preempted, preemption_signal


def signals() -> list[int]:
    """SIGTERM, and the one that Slurm sends some time before."""
    return [n for n in (preemption_signal(), signal.SIGTERM) if n is not None]


@contextmanager
def making_room() -> Iterator[None]:
    """These signals raise :class:`~grokscope.callbacks.Preempted` at once.

    Else one that comes while data are loaded or files closed would kill the process, or leave a
    job in Slurm that is never requeued. A run under way takes them over until it has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _leave) for number in signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise Preempted(number)
