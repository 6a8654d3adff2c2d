"""A file system that is told of calls one by one, and of what a power cut then leaves.

Names (of files in folders) are changed by operations of their own, in one of two ways:

- *ordered*: as ext4 and XFS do. A journal holds the operations on names in their order, so a cut
  leaves all operations up to one of them. A sync of a file or folder takes along the operations
  up to the last one that concerns it (fdatasync: up to the one that made it).
- *any order*: as POSIX permits. Each operation reaches the disk by itself, and surely only when
  the folders that it concerns are synced after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cut_files import File, Survivors
from shim import Record

EXCHANGE = 2  # a flag of renameat2
TMPFILE = getattr(os, "O_TMPFILE", -1)


class Folder:
    """A folder; what it holds is in a :class:`Tree`."""


Node = File | Folder
Tree = dict[Folder, dict[str, Node]]
Place = tuple[Folder, str]


@dataclass
class Naming:
    """An operation on names: ``node`` gets a name, loses one, or both.

    Attributes:
        node: The file or folder.
        old: The folder and the name that it had; None for a new one.
        new: Those that it has now; None for one that is deleted.
        waits_for: The folders to sync before it is surely there, in any order.
    """

    node: Node
    old: Place | None
    new: Place | None
    waits_for: set[Folder]

    @property
    def folders(self) -> set[Folder]:
        return {place[0] for place in (self.old, self.new) if place is not None}

    def apply(self, tree: Tree) -> None:
        if self.old is not None:
            folder, name = self.old
            if tree.setdefault(folder, {}).get(name) is self.node:
                del tree[folder][name]
        if self.new is not None:
            folder, name = self.new
            tree.setdefault(folder, {})[name] = self.node


class Chooser(Survivors, Protocol):
    """Chooses what has reached the disk, names included."""

    ordered: bool

    def namings(self, open: list[int]) -> set[int]:
        """Which of the operations on names that are not surely there are there."""


class Volume:
    """The watched folder.

    Args:
        folder: As it is before the first call; all of it is on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.root = Folder()
        self._path = str(folder.resolve())
        self._base: Tree = {}
        self._tree: Tree = {}
        self._nodes: dict[int, Node] = {folder.stat().st_ino: self.root}
        self._load(folder, self.root)
        self._namings: list[Naming] = []
        self._sure = 0  # of the ordered operations

    def _load(self, path: Path, folder: Folder) -> None:
        for tree in (self._base, self._tree):
            tree[folder] = {}
        for child in sorted(path.iterdir()):
            node: Node = Folder() if child.is_dir() else File(child.read_bytes())
            for tree in (self._base, self._tree):
                tree[folder][child.name] = node
            self._nodes[child.stat().st_ino] = node
            if isinstance(node, Folder):
                self._load(child, node)

    def apply(self, call: Record) -> None:
        """Follow one call."""
        match call.kind:
            case "open" if call.b:
                self._nodes[call.file] = File()
                if call.a & TMPFILE != TMPFILE:
                    self._name(call, None, self._place(call.path))
            case "mkdir":
                self._nodes[call.file] = Folder()
                self._name(call, None, self._place(call.path))
            case "unlink" | "rmdir":
                self._name(call, self._place(call.path), None)
            case "rename":
                if call.a & EXCHANGE:
                    raise ValueError("an exchange of two names cannot be followed.")
                self._name(call, self._place(call.path), self._place(call.path2))
            case "link":
                self._name(call, None, self._place(call.path2))
            case "fsync":
                self._sync(self._nodes[call.file], bool(call.a))
            case "write":
                self._file(call).write(call.a, call.data)
            case "truncate":
                self._file(call).truncate(call.a)
            case "allocate":
                self._file(call).allocate(call.a + call.b)
            case "mmap":
                raise ValueError(f"writes through a mapping of {call.path} cannot be followed.")

    def _name(self, call: Record, old: Place | None, new: Place | None) -> None:
        naming = Naming(self._nodes[call.file], old, new, set())
        naming.waits_for = naming.folders
        naming.apply(self._tree)
        self._namings.append(naming)

    def _place(self, path: str) -> Place:
        """The folder that a path lies in, and the name there."""
        *above, name = path.removeprefix(self._path).lstrip("/").split("/")
        folder: Node = self.root
        for part in above:
            assert isinstance(folder, Folder)
            folder = self._tree[folder][part]
        assert isinstance(folder, Folder)
        return folder, name

    def _file(self, call: Record) -> File:
        node = self._nodes[call.file]
        assert isinstance(node, File)
        return node

    def _sync(self, node: Node, data_only: bool) -> None:
        own = [i for i, n in enumerate(self._namings) if n.node is node]
        if isinstance(node, File):
            node.sync()
            own = own[:1] if data_only else own
        else:
            own += [i for i, naming in enumerate(self._namings) if node in naming.folders]
            for naming in self._namings:
                naming.waits_for.discard(node)
        self._sure = max([self._sure, *(i + 1 for i in own)])

    def open_namings(self, ordered: bool) -> list[int]:
        """The operations on names that a cut may lose."""
        if ordered:
            return list(range(self._sure, len(self._namings)))
        return [i for i, naming in enumerate(self._namings) if naming.waits_for]

    def unsynced_files(self) -> list[File]:
        """Files with changes that a cut may lose, deleted ones left out."""
        files = dict.fromkeys(node for _, node in _walk(self._tree, self.root))
        return [node for node in files if isinstance(node, File) and node.unsynced]

    def now(self) -> dict[str, bytes | None]:
        """What a process sees."""
        return {
            path: node.now() if isinstance(node, File) else None
            for path, node in _walk(self._tree, self.root)
        }

    def after(self, chooser: Chooser) -> dict[str, bytes | None]:
        """What is there after a cut: path -> content, None for a folder."""
        tree = {folder: dict(names) for folder, names in self._base.items()}
        open_ones = self.open_namings(chooser.ordered)
        lost = set(open_ones) - chooser.namings(open_ones)
        for i, naming in enumerate(self._namings):
            if i not in lost:
                naming.apply(tree)
        return {
            path: node.after(chooser) if isinstance(node, File) else None
            for path, node in _walk(tree, self.root)
        }


def _walk(tree: Tree, folder: Folder, above: str = "") -> Iterator[tuple[str, Node]]:
    for name, node in sorted(tree.get(folder, {}).items()):
        yield above + name, node
        if isinstance(node, Folder):
            yield from _walk(tree, node, f"{above}{name}/")


def write_out(content: dict[str, bytes | None], folder: Path) -> None:
    """Make the files of a state."""
    folder.mkdir(parents=True)
    for path, data in content.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
