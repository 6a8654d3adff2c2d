"""Paths that a user types: home folders, and places where no folder can be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf, flag_override

from grokscope.app.errors import UserError
from grokscope.store import replacing
from grokscope.validation import shown

NAME_BYTES = 200  # of the 255 that file systems take: our drafts add to a name
PATH_BYTES = 3500  # of the 4,096 that Linux takes
Steps = tuple[str | int, ...]


def expand_home(config: DictConfig) -> None:
    """Replace ``~`` and ``~user`` at the start of any text, which makes it a path, in place."""
    raw = OmegaConf.to_container(config, resolve=False)
    for steps, text in _texts(raw):
        if text.startswith("~") and (whole := os.path.expanduser(text)) != text:
            node: Container = reduce(lambda inner, step: inner[step], steps[:-1], config)
            with flag_override(node, ["readonly", "struct"], [False, False]):
                node[steps[-1]] = whole


def set_path(config: DictConfig, key: str, path: Path) -> None:
    """Put a path into a configuration; a part of it may be a stranger's.

    Raises:
        UserError: Naming the key, if Hydra would look up what stands in the path.
    """
    check_plain(key, str(path))
    *names, last = key.split(".")
    node: Container = reduce(lambda inner, name: inner[name], names, config)
    with flag_override(node, ["readonly", "struct"], [False, False]):
        node[last] = str(path)


def check_plain(key: str, text: str) -> None:
    """Refuse a path in which Hydra would look something up.

    Raises:
        UserError: Naming the key.
    """
    if "${" in text or text == "???":
        raise UserError(f"{key} must be a path without '${{', got {shown(text)}.")


def _texts(node: Any, steps: Steps = ()) -> Iterator[tuple[Steps, str]]:
    """Each text of nested settings, and the way to it."""
    if isinstance(node, str):
        yield steps, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, (*steps, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, (*steps, index))


def check_name(key: str, value: object) -> str:
    """The name of one folder.

    Raises:
        UserError: Naming the key, if it is none.
    """
    text = str(value)
    if type(value) not in (str, int) or text != Path(text).name or text[:1] in ("", ".", "~"):
        raise UserError(f"{key} must be a plain folder name, got {shown(value)}.")
    if not text.isprintable() or len(text.encode()) > NAME_BYTES:
        raise UserError(
            f"{key} must be a plain folder name of at most {NAME_BYTES} bytes, got {shown(value)}."
        )
    return text


def check_folder(key: str, value: object) -> Path:
    """A folder, or a place where one can be made as far as one can see; makes nothing.

    Raises:
        UserError: Naming the key, if it is neither.
    """
    wrong = f"{key} must be a folder, got {shown(value)}"
    text = str(value)
    if type(value) not in (str, int) or not text.strip() or not text.isprintable():
        raise UserError(f"{wrong}.")
    check_plain(key, text)
    if text.startswith("~"):
        raise UserError(f"{wrong}: there is no such home folder.")
    folder = Path(text).absolute()
    longest = max(len(part.encode()) for part in folder.parts)
    if len(str(folder).encode()) > PATH_BYTES or longest > 255:
        raise UserError(f"{wrong}: it is too long.")
    with says_where(key, folder):
        there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        if not there.is_dir():
            what = "a link that leads nowhere" if not there.exists() else "a file"
            raise UserError(f"{wrong}: {there} is {what}.")
    return folder


def make_folder(key: str, folder: Path) -> None:
    """Make a folder, and see whether files can be made in it.

    Raises:
        UserError: Naming the key, if not.
    """
    with says_where(key, folder):
        replacing.make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def says_where(key: str, folder: Path) -> Iterator[None]:
    """One line for a place that the system refuses."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{key} must be a folder to write into, got {folder}: {why}.") from error
