"""Runs that differ in their seeds alone, and the settings in which the others differ."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from grokscope.analysis.comparison.snapshot import Snapshot
from grokscope.analysis.delays import _leaves
from grokscope.analysis.run import Run, printable

NAME = "name"
IDLE_SECTIONS = ("paths", "hydra", "logger")
IDLE_NAMES = ("seed", "run", "resume", "ckpt_path")
IDLE_ENDINGS = ("_seed", "_dir")
ABSENT = object()

Settings = dict[str, Any]


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in their seeds alone.

    Attributes:
        label: The settings of this group that others have not, such as ``lr=0.001, width=64``.
        settings: Dotted names, of ``RunGroups.keys``, and values; without those that its
            configuration does not have.
        runs: In the order in which they came.
    """

    label: str
    settings: Settings
    runs: tuple[Snapshot, ...]


@dataclass(frozen=True)
class RunGroups:
    """Groups, and what distinguishes them.

    Attributes:
        keys: Dotted names of the settings that differ, in the order of the configurations.
        groups: In the order in which their first runs came.
    """

    keys: tuple[str, ...]
    groups: tuple[RunGroup, ...]


def run_groups(runs: Iterable[Run]) -> RunGroups:
    """Group runs by everything but their seeds.

    What cannot matter is passed over: sections ``paths``, ``hydra`` and ``logger``; names that are
    or end in ``seed``; folders (``..._dir``, ``run``, ``ckpt_path``); ``resume``. Everything else
    counts, also ``trainer.max_epochs`` and schedules: unlike
    :func:`~grokscope.analysis.delays.delay_table`, which asks for what is learned, this also
    keeps apart what was measured differently.

    Settings that are copies of each other (the same last name and, in every run, the same value,
    as ``schedule.batch`` and ``callbacks.gop.schedule.batch``) are one key, the shortest name.

    A label names each key by its shortest tail that no other key has. Runs of several experiments
    have the experiment's name first, and then what differs among the runs of that experiment.
    Nothing in a label is shortened or escaped; it may be long.

    Raises:
        ValueError: If there is no run, or a run's settings cannot be read.
    """
    every = [Snapshot.of(run) for run in runs]
    if not every:
        raise ValueError("runs must hold at least one run, got none.")
    settings = [_settings(run.config) for run in every]
    keys = _differing(settings)
    members: dict[tuple[Hashable, ...], list[int]] = {}
    for index, own in enumerate(settings):
        members.setdefault(tuple(_identity(own.get(key, ABSENT)) for key in keys), []).append(
            index
        )
    firsts = [indices[0] for indices in members.values()]
    labels = _labels([settings[i] for i in firsts], [every[i].name for i in firsts], NAME in keys)
    groups = (
        RunGroup(
            label,
            {key: settings[indices[0]][key] for key in keys if key in settings[indices[0]]},
            tuple(every[i] for i in indices),
        )
        for label, indices in zip(labels, members.values(), strict=True)
    )
    return RunGroups(keys, tuple(groups))


def _settings(config: dict[str, Any]) -> Settings:
    """Dotted names and values of what may matter."""
    return {name: value for name, value in _leaves(config) if not _is_idle(name)}


def _is_idle(name: str) -> bool:
    first, last = name.partition(".")[0], name.rpartition(".")[2]
    return first in IDLE_SECTIONS or last in IDLE_NAMES or last.endswith(IDLE_ENDINGS)


def _identity(value: Any) -> Hashable:
    """Equal for equal values: 1 and 1.0, but not 1 and true."""
    return repr(value) if math.isnan(as_number(value)) else value


def as_number(value: Any) -> float:
    """A finite number that a file holds; NaN for anything else."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and abs(value) <= sys.float_info.max else math.nan


def _differing(settings: list[Settings]) -> tuple[str, ...]:
    """Names whose values, or whose presence, differ; one of each set of copies."""
    names = dict.fromkeys(name for own in settings for name in own)
    shortest: dict[Hashable, str] = {}
    for name in names:
        column = tuple(_identity(own.get(name, ABSENT)) for own in settings)
        if len(set(column)) > 1:
            copies = name.rpartition(".")[2], column
            kept = shortest.setdefault(copies, name)
            shortest[copies] = min(kept, name, key=lambda each: each.count("."))
    kept_names = set(shortest.values())
    return tuple(name for name in names if name in kept_names)


def _labels(settings: list[Settings], names: list[str], several: bool) -> list[str]:
    """A label for each group; within an experiment only what differs there."""
    experiments: dict[Hashable, list[int]] = {}
    for index, own in enumerate(settings):
        experiments.setdefault(_identity(own.get(NAME, ABSENT)), []).append(index)
    labels = [""] * len(settings)
    for indices in experiments.values():
        keys = _differing([settings[i] for i in indices])
        tails = _tails(keys)
        for i in indices:
            parts = [_assignment(tails[key], settings[i].get(key, ABSENT)) for key in keys]
            labels[i] = ", ".join([names[i], *parts] if several or not parts else parts)
    return labels


def _tails(keys: tuple[str, ...]) -> dict[str, str]:
    """Each dotted name's shortest tail that is the tail of no other."""
    counts: dict[str, int] = {}
    for key in keys:
        for tail in _ends(key):
            counts[tail] = counts.get(tail, 0) + 1
    return {key: next((tail for tail in _ends(key) if counts[tail] == 1), key) for key in keys}


def _ends(key: str) -> list[str]:
    """``c``, ``b.c``, ``a.b.c`` of ``a.b.c``."""
    parts = key.split(".")
    return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]


def _assignment(name: str, value: Any) -> str:
    return printable(f"{name} absent" if value is ABSENT else f"{name}={_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return "null" if value is None else str(value)
