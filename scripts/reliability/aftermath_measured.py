"""What a power cut has left of a run at whose checkpoints ``src/measure.py`` was measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aftermath import Aftermath
from findings import Reference, same_bytes, shown
from launch import run_script
from numpy.typing import NDArray

from grokscope import Run

NAME = "default"


def measured_values(folder: Path) -> dict[str, NDArray]:
    """Name -> array over the rows that were measured at a run's checkpoints."""
    metrics = Run.open(folder).measured(NAME).metrics
    return {name: metrics[name] for name in metrics}


class MeasuredAftermath:
    """A finished run, all of which must be there, and rows that were being written beside it.

    Args:
        root: The working directory of the commands.
        folder: The run's, below ``root``.
        reference: The run.
        values: The rows that are measured when there is no cut.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        reference: Reference,
        values: Mapping[str, NDArray],
        seed: int,
    ) -> None:
        self._run = Aftermath(root, folder, reference, shown(reference.values), seed)
        self._root, self._folder, self._values = root, folder, values
        self._place = folder / "measured" / NAME
        self.found = self._run.found

    def examine(self) -> None:
        """Read what is there; the new rows are all there, or there is no folder for them."""
        self._run.examine()
        if self._place.exists():
            self.found.counts["measured rows there"] += 1
            self._compare()

    def _compare(self) -> None:
        try:
            run = Run.open(self._folder).measured(NAME)
            values = measured_values(self._folder)
            if run.status != "finished" or not run.config:
                self.found.fail("status untrue", f"of measured rows: {run.status}")
        except Exception as error:
            self.found.fail("Run.open fails", f"measured: {error!r}")
            return
        unlike = {
            name
            for name in self._values.keys() | values.keys()
            if name not in self._values
            or name not in values
            or not same_bytes(values[name], self._values[name])
        }
        if unlike:
            self.found.fail("rows that differ", f"measured: {sorted(unlike)[:5]}")

    def go_on(self, command: Sequence[str]) -> None:
        """The same command once more."""
        again = ["replace=true"] if self._place.exists() else []
        done = run_script("measure", [*command, *again], self._root)
        if done.code or "Traceback" in done.output:
            self.found.fail("resume fails", f"exit code {done.code}: {done.output[-500:]}")
            return
        self.found.counts["brought to their end"] += 1
        self._compare()
        left = [path for path in self._place.parent.iterdir() if path != self._place]
        self.found.counts["drafts left"] += len(left)
