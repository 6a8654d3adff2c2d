"""Defers signals while a library calls back into Python: it would lose what a handler raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def signals_wait() -> Iterator[Callable[[], None]]:
    """Defer Python's signal handlers to the end of the block; yields a function that runs them.

    HDF5 writes through functions of ours. A handler that raises in one of them (Ctrl-C, or the
    request to make room) is lost there, or ends the process with a segmentation fault. Signals
    that are still waiting when the block ends are answered then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    waiting: list[int] = []
    handlers: dict[int, Handler] = {}

    def answer() -> None:
        while waiting:
            first = waiting.pop(0)
            handlers[first](first, None)

    for each in signal.valid_signals():
        if callable(found := signal.getsignal(each)):
            handlers[each] = found
            signal.signal(each, lambda number, _: waiting.append(number))
    try:
        yield answer
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        answer()
