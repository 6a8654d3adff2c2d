"""When a run memorises, begins to generalise, and has generalised, from rows as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from grokscope.validation import require_choice, require_float, require_int

NAMES = ("memorised", "onset", "generalised")
ONSET_SHARE = 0.1  # of the way up to the threshold; our choice


@dataclass(frozen=True)
class Crossing:
    """First row from which a value stays at or above a level for a number of epochs.

    Attributes:
        epoch: Of that row, or of one that may still turn out to be it; None without one.
        level: That it crossed there.
        certain: Whether the epochs are over.
    """

    epoch: int | None = None
    level: float = math.inf
    certain: bool = False

    def after(self, epoch: int, value: float, level: float, patience: int) -> Crossing:
        """With one more row; NaN values are passed over.

        Args:
            epoch: Of the row, later than the last.
            value: There.
            level: To be crossed, for a crossing that begins here.
            patience: Epochs for which the value has to stay at every row.
        """
        if self.certain or math.isnan(value):
            return self
        if self.epoch is None:
            here = Crossing(epoch, level, certain=patience == 0)
            return here if value >= level else self
        if epoch <= self.epoch + patience and value < self.level:
            return Crossing()
        return replace(self, certain=epoch >= self.epoch + patience)


@dataclass(frozen=True)
class Detector:
    """Memorisation, onset and generalisation of a run; each row gives a new object.

    - ``memorised``: the first row at which the training accuracy is at least ``train``, and so
      at every row of the next ``patience`` epochs: :func:`grokscope.analysis.grokking_times`.
    - ``generalised``: the same of the test accuracy and ``test``.
    - ``onset``: the start of the test rise, our choice: the first row after memorisation at
      which the test accuracy is a tenth of the way up from its lowest value since then to
      ``test``, and stays there for ``patience`` epochs. None for a run that generalised before
      it memorised, or at the same row.

    Attributes:
        train: Threshold of the training accuracy.
        test: Threshold of the test accuracy.
        patience: In epochs.
        lowest: Test accuracy, since memorisation.
    """

    train: float = 0.99
    test: float = 0.99
    patience: int = 0
    memorised: Crossing = field(default_factory=Crossing)
    onset: Crossing = field(default_factory=Crossing)
    generalised: Crossing = field(default_factory=Crossing)
    lowest: float = math.inf

    def __post_init__(self) -> None:
        require_float("thresholds.train", self.train, above=0, maximum=1)
        require_float("thresholds.test", self.test, above=0, maximum=1)
        require_int("patience", self.patience, minimum=0)

    def observe(self, epoch: int, train_acc: float, test_acc: float) -> Detector:
        """With one more row; NaN for an accuracy that is not known."""
        memorised = self.memorised.after(epoch, train_acc, self.train, self.patience)
        generalised = self.generalised.after(epoch, test_acc, self.test, self.patience)
        after = replace(self, memorised=memorised, generalised=generalised)
        if memorised.epoch != self.memorised.epoch:  # what went before does not count
            after = replace(after, onset=Crossing(), lowest=math.inf)
        return after if memorised.epoch is None else after._climbed(epoch, test_acc)

    def after_row(self, epoch: int, losses: Mapping[str, float]) -> Detector:
        """:meth:`observe` with the accuracies by name; without any there is nothing to see."""
        accuracies = (losses.get(f"{split}_acc", math.nan) for split in ("train", "test"))
        return self.observe(epoch, *accuracies)

    def _climbed(self, epoch: int, test_acc: float) -> Detector:
        """With the row's test accuracy taken in for the onset."""
        lowest = self.lowest if math.isnan(test_acc) else min(self.lowest, test_acc)
        if lowest >= self.test:  # nothing to rise from
            return self
        level = lowest + ONSET_SHARE * (self.test - lowest)
        onset = self.onset.after(epoch, test_acc, level, self.patience)
        return replace(self, onset=onset, lowest=lowest)

    def events(self, final: bool = False) -> dict[str, int]:
        """Name -> epoch of what has happened for certain.

        Args:
            final: Whether no row will follow, so that what lasted up to here counts too.
        """
        found = {
            name: crossing.epoch
            for name in NAMES
            if (crossing := getattr(self, name)).epoch is not None and (crossing.certain or final)
        }
        generalised = self.generalised.epoch
        if "memorised" not in found or (
            generalised is not None and generalised <= found["memorised"]
        ):
            found.pop("onset", None)
        return found

    def state(self) -> dict[str, Any]:
        """Thresholds, and what the rows have shown, as plain values for a checkpoint."""
        return asdict(self)

    def restored(self, state: dict[str, Any] | None) -> Detector:
        """This detector with what :meth:`state` gave; itself after other thresholds, or None."""
        settings = ("train", "test", "patience")
        if state is None or any(state[name] != getattr(self, name) for name in settings):
            return self
        return Detector(**(state | {name: Crossing(**state[name]) for name in NAMES}))


def make_detector(thresholds: Mapping[str, float] | None, patience: int) -> Detector:
    """A detector with its thresholds by split; 0.99 where not given.

    Raises:
        ValueError: For another split than ``train`` and ``test``, or a number out of range.
    """
    given = {} if thresholds is None else thresholds
    if not isinstance(given, Mapping):
        raise ValueError(f"thresholds must map train and test to accuracies, got {given!r}.")
    for split in given:
        require_choice("thresholds", split, ("train", "test"))
    return Detector(given.get("train", 0.99), given.get("test", 0.99), patience)
