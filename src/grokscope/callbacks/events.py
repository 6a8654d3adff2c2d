"""Tells that something has happened: to the log, to ``run.json``, to loggers that can alert."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.loggers.logger import Logger

from grokscope.callbacks.detection import Detector
from grokscope.store.info import read_info, update_info
from grokscope.store.run_writer import METRICS
from grokscope.store.tables import TableFile
from grokscope.store.writer import full_disk_named

log = logging.getLogger(__name__)
ENTRY = "events"
TEXTS = {
    "memorised": "Memorised at epoch {epoch:,}: train accuracy >= {train:g}.",
    "onset": "Test accuracy begins to rise at epoch {epoch:,}.",
    "generalised": "Generalised at epoch {epoch:,}: test accuracy >= {test:g}.",
}


def replayed(detector: Detector, folder: Path) -> Detector:
    """The detector after all rows in a run folder."""
    file = TableFile(folder / METRICS)
    columns = [file.read("", name).tolist() for name in ("epoch", "train_acc", "test_acc")]
    for row in zip(*columns, strict=True):
        detector = detector.observe(*row)
    return detector


class Announcer:
    """Tells each event of a run once, also when the run was stopped and goes on.

    ``run.json`` says what has been told. Events that a resumed run has still to repeat, since
    its checkpoint is older, are taken out of there, and come back in silence.

    Args:
        folder: The run folder.
        loggers: Those with ``experiment.alert(title=..., text=...)`` are used (Weights & Biases).
        detector: After the rows before the first one to come.
        resume: Whether ``folder`` holds an earlier part of this run.
    """

    def __init__(
        self, folder: Path, loggers: Sequence[Logger], detector: Detector, resume: bool
    ) -> None:
        self._folder, self._loggers = folder, loggers
        self._thresholds = {"train": detector.train, "test": detector.test}
        earlier = read_info(folder).get(ENTRY) if resume else None
        self._told = (earlier if isinstance(earlier, dict) else {}) | detector.events()
        self._write(detector.events())

    def tell(self, events: Mapping[str, int]) -> None:
        """Tell those of all events so far that are new."""
        if events == self._written:
            return
        self._write(events)
        for name, epoch in events.items():
            if self._told.get(name) != epoch:
                self._told[name] = epoch
                self._say(name, TEXTS[name].format(epoch=epoch, **self._thresholds))

    def _write(self, events: Mapping[str, int]) -> None:
        self._written = dict(events)
        with full_disk_named(self._folder):
            update_info(self._folder, **{ENTRY: self._written})

    def _say(self, name: str, text: str) -> None:
        log.info(text)
        for logger in self._loggers:
            try:
                experiment = getattr(logger, "experiment", None)
                if callable(alert := getattr(experiment, "alert", None)):
                    alert(title=name.capitalize(), text=text)
            except Exception as error:  # whatever a service does, training goes on
                log.warning("No alert through %s: %s", type(logger).__name__, error)
