"""Signals while a process waits for the others of its run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lightning import Callback, LightningModule, Trainer

from grokscope.app.ending import INTERRUPTED
from grokscope.app.making_room import signals
from grokscope.callbacks.stop import Preempted

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 3.0  # for the main thread, to answer the signal itself


class _Connected(Callback):
    """Says when all processes of a run have found each other."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called by Lightning for the first time after that."""
        self._event.set()


@contextmanager
def ended_by_signals_while_waiting(
    trainer: Trainer, note: Callable[[str], object]
) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a process whose peers have not come.

    It waits in torch's own code for up to half an hour, during which Python runs no handler. The
    system's part of Python does see the signal and writes its number to a socket, which a thread
    reads. Nothing is lost by the end: training has not begun.

    Args:
        trainer: Whose processes they are.
        note: Called with the status of the run before the process ends.
    """
    if trainer.world_size == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    connected = threading.Event()
    trainer.callbacks.append(_Connected(connected))  # type: ignore[attr-defined]
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(trainer, ours, connected, note), daemon=True)
    watch.start()
    try:
        yield
    finally:
        connected.set()
        signal.set_wakeup_fd(before)
        theirs.close()  # which ends the thread
        watch.join()
        ours.close()


def _watch(
    trainer: Trainer,
    ours: socket.socket,
    connected: threading.Event,
    note: Callable[[str], object],
) -> None:
    """End the process for the first of our signals, unless the main thread does so in time."""
    while number := int.from_bytes(ours.recv(1), "big"):
        if number not in {signal.SIGINT, *signals()} or connected.wait(PATIENCE_SECONDS):
            continue
        end = Preempted(number)
        log.warning("Ended by %s: other processes of the run are missing.", _name(number))
        stopped = number == signal.SIGINT
        note("stopped" if stopped else end.status)
        with suppress(Exception):  # those that Lightning has started wait as well
            trainer.strategy.launcher.kill(number)  # type: ignore[union-attr]
        os._exit(INTERRUPTED if stopped else int(str(end.code)))


def _name(number: int) -> str:
    return signal.Signals(number).name
