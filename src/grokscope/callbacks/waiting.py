"""Rows that wait, to be measured, written and told of together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from lightning.pytorch.loggers.logger import Logger

from grokscope.callbacks.csv_logger import CSVLogger
from grokscope.callbacks.detection import Detector
from grokscope.callbacks.events import Announcer
from grokscope.callbacks.kinds import Kind
from grokscope.callbacks.measurement import stack
from grokscope.callbacks.nonfinite import NonfiniteReport
from grokscope.callbacks.recorder import Found, Pass, Recorder, log_rows
from grokscope.callbacks.stopwatch import Stopwatch

QUEUE_BYTES, QUEUE_ROWS = 2**24, 512


class WaitingRows:
    """Rows on their way to the files, the loggers and the log.

    They wait for each other, up to ``QUEUE_ROWS`` of them or ``QUEUE_BYTES`` of gradients, or
    until :meth:`flush`: measured one after the other they cost half of what they cost between
    training steps, which leave the processor's caches cold.

    Args:
        recorder: Writes them.
        loggers: Get their scalars.
        kinds: Measured from the gradients of a row.
        detector: Looks for memorisation and generalisation.
        announcer: Tells what it finds.
        report: Told of gradients that are not finite.
        clock: Times each kind, and the rest as ``rows``.
    """

    def __init__(
        self,
        recorder: Recorder,
        loggers: Sequence[Logger],
        kinds: Sequence[Kind],
        detector: Detector,
        announcer: Announcer,
        report: NonfiniteReport,
        clock: Stopwatch,
    ) -> None:
        self._recorder, self._loggers, self._kinds = recorder, loggers, kinds
        self.detector, self._announcer, self._report = detector, announcer, report
        self._clock = clock
        self._rows: list[Pass] = []
        self._finished = False
        self.saved: dict[str, dict[str, int]] = {}
        """File -> table -> rows before the last checkpoint, all of them on the disk."""

    def add(self, row: Pass) -> None:
        """Let a row wait, or flush."""
        self._rows.append(row)
        size = 0 if row.gradients is None else row.gradients.nbytes
        if len(self._rows) >= QUEUE_ROWS or len(self._rows) * size > QUEUE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Measure and write the rows that wait; then say what they show.

        Raises:
            FloatingPointError: At a gradient that is not finite, if that was asked for; the row
                is written.
        """
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        found = self._measure(rows)
        with self._clock("rows"):
            self._recorder.write(rows, found)
            log_rows(self._loggers, rows, found)
            for each in rows:
                self.detector = self.detector.after_row(each.epoch, each.losses)
            self._announcer.tell(self.detector.events())
            self._report.check(rows, self._kinds, found)

    def settle(self) -> None:
        """Let all rows so far reach the disk: a checkpoint is about to be saved.

        One that reached it before the rows that it presumes would leave a hole in the run that
        goes on from it after a power cut.
        """
        if self._finished:
            return
        self.flush()
        self.saved = self._recorder.writer.rows()
        self._recorder.writer.sync()
        self._save_loggers()

    def _save_loggers(self) -> None:
        for logger in self._loggers:
            logger.save()
            if isinstance(logger, CSVLogger):
                logger.sync()

    def finish(self, closing: Pass | None) -> None:
        """Write the last row, say what is certain now, and compress the files."""
        self.settle()
        final = self.detector
        if closing is not None:
            self._recorder.write([closing], {})
            log_rows(self._loggers, [closing], {})
            self._save_loggers()
            final = final.after_row(closing.epoch, closing.losses)
        self._announcer.tell(final.events(final=True))
        self._recorder.writer.finalise()
        self._finished = True

    def abandon(self) -> None:
        """Write what waits, unless that is what failed, and close the files as they are."""
        if not self._finished:
            with suppress(Exception):
                self.flush()
            self._recorder.writer.close()

    def _measure(self, rows: Sequence[Pass]) -> dict[str, Found]:
        """What is due at each of the rows, those of a kind together."""
        found = {}
        for kind in self._kinds:
            wanted = {
                i: row.gradients
                for i, row in enumerate(rows)
                if row.gradients is not None and row.wants(kind.name)
            }
            if wanted:
                with self._clock(kind.name):
                    measurement = kind.measure(list(wanted.values()))
                found[kind.name] = Found(list(wanted), measurement)
        return found | _probed(rows)


def _probed(rows: Sequence[Pass]) -> dict[str, Found]:
    """What was measured when the rows began."""
    names: Collection[str] = {name for row in rows for name in row.probed}
    found = {}
    for name in sorted(names):
        there = {i: row.probed[name] for i, row in enumerate(rows) if name in row.probed}
        found[name] = Found(list(there), stack(list(there.values())))
    return found
