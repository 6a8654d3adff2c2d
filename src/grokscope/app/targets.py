"""Which classes and functions a stored configuration may name, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from grokscope.callbacks import ProgressMeasure, families

OURS = Path(__file__).parents[3] / "configs"
TARGET, PARTIAL, CONVERT = "_target_", "_partial_", "_convert_"
RESERVED = re.compile(r"_[a-z]+_")
PACKAGE = re.compile(r"^#\s*@package\s+(\S+)\s*$", re.MULTILINE)
FAMILIES = re.compile(r"grokscope\.callbacks\.families\.([a-z][a-z_]*)\.[A-Z]\w*", re.ASCII)
GROUPS = (
    *("callbacks", "data", "debug", "experiment", "logger", "measures", "model", "net"),
    *("optimizer", "sweep", "trainer"),
)
PROGRESS = ("measures", "progress", "*")
NAMED = (("callbacks",), ("logger",), PROGRESS[:2], ("callbacks", "*", "progress"))
"""Nodes that map names of the user's choice to constructor calls."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Place = tuple[str, ...]


@dataclass
class Targets:
    """What configuration files build, by place: a dotted key without numbers of lists.

    Attributes:
        calls: Place -> name -> the nodes that call it, as written.
        partial: Places at which a node says ``_partial_: true``.
    """

    calls: dict[Place, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    partial: set[Place] = field(default_factory=set)

    def add(self, place: Place, node: dict[str, Any]) -> None:
        """Note a node with a ``_target_``."""
        if isinstance(node[TARGET], str):
            self.calls.setdefault(place, {}).setdefault(node[TARGET], []).append(node)
        if node.get(PARTIAL) is True:
            self.partial.add(place)

    def allows(self, place: Place, name: str) -> bool:
        """Whether this name, letter by letter, may be built there."""
        return name in self.calls.get(place, ()) or (place == PROGRESS and _is_own_measure(name))

    def written(self, place: Place, name: str, argument: str) -> list[Any]:
        """Values of an argument in the nodes that call this name there."""
        nodes = self.calls.get(place, {}).get(name, [])
        return [node[argument] for node in nodes if argument in node]


def place_of(keys: Iterable[str | int]) -> Place:
    """Where a node stands, whatever name the user gave it."""
    words = tuple(key for key in keys if isinstance(key, str))
    for start in NAMED:
        if len(words) > len(start) and words[: len(start)] == start:
            words = (*start, "*", *words[len(start) + 1 :])
    return PROGRESS if words == (*NAMED[-1], "*") else words


def present_targets() -> Targets:
    """Those of the configuration folders that the present command uses."""
    found = Targets()
    for folder in present_folders():
        _collect(folder, found)
    return found


def present_folders() -> list[Path]:
    """The folder of the command, ``--config-dir``, ``hydra.searchpath``; else the template's."""
    if not HydraConfig.initialized():
        return [OURS]
    sources = HydraConfig.get().runtime.config_sources
    used = [s for s in sources if s.provider.startswith(("main", "command-line", "hydra.search"))]
    found = [Path(s.path) if s.schema == "file" else _packaged(s.path) for s in used]
    return [folder for folder in found if folder is not None and folder.is_dir()]


def _packaged(name: str) -> Path | None:
    try:
        return Path(str(files(name.replace("/", "."))))
    except ImportError:
        return None


def _collect(folder: Path, found: Targets) -> None:
    """The calls of all groups but Hydra's own, at the places that their packages give them.

    A group is one of the template's, or one that a defaults list names: a run that happens to lie
    below the folder says nothing.
    """
    read: dict[Place, list[_File]] = {}
    elsewhere: list[tuple[Place, Place]] = []
    waiting: list[Place] = [(), *((name,) for name in GROUPS)]
    while waiting:
        group = waiting.pop()
        if group in read or group[:1] == ("hydra",) or ".." in group:
            continue
        paths = sorted(folder.joinpath(*group).glob("*.yaml"))
        read[group] = [_File.read(path, group) for path in paths]
        named = [entry for file in read[group] for entry in file.defaults()]
        elsewhere += [(other, where) for other, where in named if where is not None]
        waiting += [other for other, _ in named]
    for group, contents in read.items():
        places = {where for other, where in elsewhere if other == group}
        for file in contents:
            for start in {file.package, *places}:
                for keys, node in calls(file.content):
                    found.add(place_of((*start, *keys)), node)


@dataclass(frozen=True)
class _File:
    """A configuration file, empty if Hydra could not read it either.

    Attributes:
        group: The folder that it is in.
        package: Where its keys go.
        content: Its keys.
    """

    group: Place
    package: Place
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path, group: Place) -> _File:
        try:
            text = path.read_text(encoding="utf-8")
            content = yaml.load(text, Loader=LOADER)
        except (OSError, ValueError, yaml.YAMLError):
            return cls(group, group, {})
        written = PACKAGE.search(text)
        name = "" if written and written[1] == "_global_" else written and written[1]
        package = group if name is None else tuple(name.split(".")) if name else ()
        return cls(group, package, content if isinstance(content, dict) else {})

    def defaults(self) -> Iterator[tuple[Place, Place | None]]:
        """Groups in the defaults list, with the place that ``group@place`` gives them."""
        entries = self.content.get("defaults")
        for entry in entries if isinstance(entries, list) else ():
            option = isinstance(entry, str)
            key = entry if option else next(iter(entry), "") if isinstance(entry, dict) else ""
            name, at, where = str(key).split(" ")[-1].partition("@")
            words = tuple(name.strip("/").split("/"))
            group = (() if name[:1] == "/" else self.group) + (words[:-1] if option else words)
            usable = at and where[:1] not in ("", "_")
            yield group, (*self.package, *where.split(".")) if usable else None


def calls(node: Any, keys: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every node with a ``_target_``, and where it is."""
    if isinstance(node, dict) and TARGET in node:
        yield keys, node
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in items:
        if isinstance(child, (dict, list)):
            yield from calls(child, (*keys, key))


def _is_own_measure(name: str) -> bool:
    """Whether it is one of our progress measures, which need no file of configuration."""
    match = FAMILIES.fullmatch(name)
    if match is None or match[1] not in {p.stem for p in Path(families.__path__[0]).glob("*.py")}:
        return False
    module = import_module(name.rpartition(".")[0])
    found: Any = getattr(module, name.rpartition(".")[2], None)
    measure = isinstance(found, type) and issubclass(found, ProgressMeasure)
    return measure and found.__module__ == module.__name__
