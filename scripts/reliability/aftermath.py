"""What a power cut has left of a run: read as a user reads it, brought to its end, compared."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from case import equal, final_state
from findings import Findings, Reference, group_of, same_bytes, shown
from launch import Outcome, passes_of, run_script
from numpy.typing import NDArray
from rows import FILES, everything

from grokscope import Run

GONE_BACK = re.compile(r"go(es|ing)? (back|on from)", re.IGNORECASE)
STATES_OF_A_CUT = ("killed", "finished", "stopped")


class Aftermath:
    """One run folder after a cut.

    Args:
        root: The working directory of the run's commands.
        folder: The run's, below ``root``; it need not be there.
        reference: The run without a cut.
        required: Group of metrics -> epochs that the cut must have spared.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        reference: Reference,
        required: Mapping[str, Iterable[int]],
        seed: int,
    ) -> None:
        self.root, self.folder, self.reference = root, folder, reference
        self.required = {group: set(epochs) for group, epochs in required.items()}
        self.random = random.Random(seed)
        self.found = Findings()

    def examine(self) -> None:
        """Read what is there."""
        self.found.counts["states"] += 1
        self.saved = self._checkpoints()
        self._open_plainly()
        self.values = self._read_run() if self._is_run() else {}
        self._compare_values(self.values)
        self._look_for_lost(self.values)

    def _is_run(self) -> bool:
        there = any((self.folder / name).exists() for name in ("run.json", *FILES))
        self.found.counts["runs there" if there else "nothing of the run there"] += 1
        return there

    def _checkpoints(self) -> dict[str, int | None]:
        """Name -> passes done; None for one that is torn."""
        passes: dict[str, int | None] = {}
        for path in sorted((self.folder / "checkpoints").glob("[!.]*.ckpt")):
            try:
                passes[path.name] = passes_of(path)
            except Exception as error:
                passes[path.name] = None
                self.found.fail("checkpoints torn", f"{path.name}: {error!r}")
        return passes

    @property
    def newest(self) -> int | None:
        """Passes of the newest whole checkpoint; None if there is none."""
        return max((n for n in self.saved.values() if n is not None), default=None)

    def _open_plainly(self) -> None:
        """With nothing but h5py, as docs/files.md says."""
        for name in FILES:
            if (self.folder / name).exists():
                self.found.counts["files"] += 1
                try:
                    with h5py.File(self.folder / name, "r") as file:
                        file.visititems(_read_something)
                except Exception as error:
                    self.found.fail("does not open", f"{name}: {error!r}")

    def _read_run(self) -> dict[str, NDArray]:
        """Everything that ``Run`` gives; rows by name."""
        try:
            run = Run.open(self.folder)
            if run.status not in STATES_OF_A_CUT:
                self.found.fail("status untrue", run.status)
            if not isinstance(run.config, dict):
                raise TypeError("config is no dict")
            metrics = run.metrics
            values = {name: metrics[name] for name in metrics}
            self._compare_spectra(run, shown(values))
            return values
        except Exception as error:
            self.found.fail("Run.open fails", repr(error))
            return {}

    def _compare_spectra(self, run: Run, epochs: Mapping[str, Sequence[int]]) -> None:
        """Some spectra of the whole and of a layer, and rows of some matrices."""
        whole = Run.open(self.reference.folder)
        for group, there in epochs.items():
            kind = group.removeprefix("gop/").removesuffix("/").removesuffix("/layers")
            if not there or not group.startswith("gop/"):
                continue
            of = self.random.choice(run.layer_names(kind)) if "/layers/" in group else None
            for epoch in {there[0], there[-1], self.random.choice(there)}:
                ours, theirs = (r.spectrum(kind, epoch, of) for r in (run, whole))
                if ours.tobytes() != theirs.tobytes():
                    self.found.fail("rows that differ", f"spectrum {kind} {epoch} {of}")
        if (run.path / "gop_full.h5").exists():
            self._compare_matrices(run, whole)

    def _compare_matrices(self, run: Run, whole: Run) -> None:
        there = run.epochs("factor").tolist()
        if there != whole.epochs("factor").tolist()[: len(there)]:
            self.found.fail("holes", f"factors of epochs {there[-5:]}")
        elif there:
            for epoch in {there[0], there[-1], self.random.choice(there)}:
                if run.gop(epoch)[0, :9].tobytes() != whole.gop(epoch)[0, :9].tobytes():
                    self.found.fail("rows that differ", f"gop {epoch}")

    def _compare_values(self, values: Mapping[str, NDArray]) -> None:
        """Each row shown is that of the whole run, and none between two of them is missing."""
        epochs, whole = shown(values), shown(self.reference.values)
        for group, there in epochs.items():
            self.found.counts["rows"] += len(there)
            wanted = whole.get(group, [])[: len(there)]
            if there != wanted:
                at = next(
                    (i for i, (a, b) in enumerate(zip(there, wanted, strict=False)) if a != b),
                    len(wanted),
                )
                self.found.fail("holes", f"{group}epoch from row {at} on: {there[at : at + 5]}")
        for name, ours in values.items():
            theirs = self.reference.values.get(name, np.empty(0))[: len(ours)]
            if epochs[group_of(name)] and not same_bytes(ours, theirs):
                self.found.fail("rows that differ", name)

    def _look_for_lost(self, values: Mapping[str, NDArray]) -> None:
        """Rows before a checkpoint that is there, or so old that they had to be safe."""
        epochs = shown(values)
        for group, whole in shown(self.reference.values).items():
            there = set(epochs.get(group, ()))
            if lost := {e for e in whole if e < (self.newest or 0)} - there:
                detail = f"{group}epoch {min(lost)} to {max(lost)}, checkpoint {self.newest}"
                self.found.fail("lost before a checkpoint", detail, len(lost))
            if lost := self.required.get(group, set()) - there:
                self.found.fail("lost too early", f"{group}epoch {sorted(lost)[:5]}", len(lost))

    def go_on(self, command: Sequence[str]) -> None:
        """Bring the run to its end by one of the two ways, and compare it with the whole one."""
        if self.newest is not None and self._status() != "finished" and self.random.random() < 0.4:
            done = self._run([*command, f"run={self.folder.relative_to(self.root)}"])
        else:
            if self.newest is None and (self.folder / "run.json").exists():
                self._refuses([*command, f"run={self.folder.relative_to(self.root)}"])
            done = self._run([*command, "resume=true"])
        if done.code or "Traceback" in done.output:
            self.found.fail("resume fails", f"exit code {done.code}: {done.output[-500:]}")
            return
        self.found.counts["brought to their end"] += 1
        self._look_at_start(done)
        self._compare(self._ended())

    def _status(self) -> str:
        try:
            return Run.open(self.folder).status
        except Exception:
            return "unknown"

    def _run(self, overrides: Sequence[str]) -> Outcome:
        return run_script("train", overrides, self.root)

    def _refuses(self, overrides: Sequence[str]) -> None:
        """``run=`` without a checkpoint to go on from is one line."""
        done = self._run(overrides)
        if done.code != 1 or "Traceback" in done.output or done.output.strip().count("\n") > 0:
            self.found.fail("resume fails", f"run= without a checkpoint: {done}")

    def _look_at_start(self, done: Outcome) -> None:
        """An earlier beginning than the newest checkpoint is said in one line."""
        torn = any(passes is None for passes in self.saved.values())
        newest = -1 if self.newest is None else self.newest
        if done.started_at is None:
            self.found.counts["nothing left to do"] += 1
        elif done.started_at < newest or torn:
            self.found.counts["went back to an earlier checkpoint"] += 1
            lines = [line for line in done.output.splitlines() if GONE_BACK.search(line)]
            if len(lines) != 1:
                self.found.fail("went back without a word", f"{self.saved}: {done.output[-400:]}")
        elif done.started_at == -1:
            self.found.counts["began anew"] += 1

    def _ended(self) -> Path:
        """The folder of the run that has ended: this one, or a new one beside it."""
        if self._status() == "finished":
            return self.folder
        others = [path.parent for path in self.root.glob("logs/runs/*/*/run.json")]
        return max(others, key=lambda path: path.stat().st_mtime_ns)

    def _compare(self, folder: Path) -> None:
        ours, theirs = everything(folder), self.reference.everything
        unlike = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if unlike:
            self.found.fail("datasets unlike", f"{len(unlike)}: {unlike[:4]}")
        if not equal(final_state(folder), self.reference.state):
            self.found.fail("weights unlike", folder)
        if (folder / "metrics.csv").read_bytes() != self.reference.csv:
            self.found.fail("metrics.csv unlike", folder)
        if (status := Run.open(folder).status) != "finished":
            self.found.fail("status untrue", f"at the end: {status}")
        self.found.counts["drafts left"] += sum(1 for _ in folder.rglob(".*.part"))


def _read_something(name: str, node: h5py.HLObject) -> None:
    """A few rows of a dataset; what cannot be read raises."""
    if isinstance(node, h5py.Dataset) and node.shape and node.shape[0]:
        node[:1]
        node[-1:]
