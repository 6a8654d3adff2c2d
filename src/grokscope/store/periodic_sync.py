"""Lets what has been written reach the disk every few seconds, beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable


class PeriodicSync:
    """Calls ``sync`` every so many seconds in a thread of its own, until :meth:`close`.

    The system call gives Python's lock back, so the training goes on meanwhile. An error is kept
    for :meth:`check`: a disk that has lost rows must end the run, not the thread.

    Args:
        sync: What to call.
        seconds: Between two calls.
    """

    def __init__(self, sync: Callable[[], None], seconds: float) -> None:
        self._sync, self._seconds = sync, min(seconds, threading.TIMEOUT_MAX)
        self._error: BaseException | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grokscope-sync", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error that there was, if any."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Call no more; returns when no call is under way."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                self._sync()
            except BaseException as error:  # for the main thread to raise
                self._error = error
                return
