"""Attributes that users have added to a run's files are kept when a file is rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import h5py

from grokscope.store.nodes import has

UNKNOWN = (TypeError, ValueError, OSError, RuntimeError)  # of a type that h5py cannot write


def carry_attributes(old: h5py.File, new: h5py.File) -> None:
    """Copy what a node of the old file says and the same node of the new one does not."""
    old.headers.check(old.headers.root())
    for path in _paths(new):
        if _is_here(old, path):
            source, target = old[path].attrs, new[path].attrs
            for name in source.keys() - target.keys():
                with suppress(*UNKNOWN):
                    target[name] = source[name]


def _is_here(file: h5py.File, path: str) -> bool:
    """Whether there is such a node in this very file; other links may lead anywhere.

    Raises:
        ValueError: If reading it would hang the library.
    """
    return path == "/" or has(file, path)


def _paths(file: h5py.File) -> Iterator[str]:
    """Every group and dataset."""
    yield "/"
    found: list[str] = []
    file.visit(found.append)
    yield from found
