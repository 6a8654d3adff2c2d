"""The text of a ``config.yaml`` that may come from a stranger."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from grokscope.store.text import check_number, read_text

MAX_BYTES = 2**18
MAX_NODES = 20_000
MAX_DEPTH = 50
NUMBER = re.compile(r"[-+]?[0-9][0-9a-fxob_:.+-]*", re.IGNORECASE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def settings_text(path: Path) -> str:
    """Text of a YAML file that any loader can take: no tags, bounded in every way.

    An alias counts as all that it repeats, since loaders that copy it (OmegaConf) or merge it
    (any) take that much time and memory.

    Raises:
        ValueError: Naming what is wrong; the caller names the file.
        yaml.YAMLError: If it is not YAML.
    """
    text = read_text(path, MAX_BYTES)
    _check_events(text)
    return text


def _check_events(text: str) -> None:
    sizes: dict[str, int | None] = {}  # nodes below an anchor; None while it is open
    opened: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, Loader=LOADER):
        _check_plain(event)
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if (size := sizes.get(event.anchor, 1)) is None:
                raise ValueError(f"*{anchor} repeats itself.")
            count += size
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((anchor, count))
            sizes |= {anchor: None} if anchor else {}
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = opened.pop()
            sizes |= {anchor: count - start} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
        if count > MAX_NODES or len(opened) > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_NODES:,} entries or {MAX_DEPTH} levels.")


def _check_plain(event: yaml.Event) -> None:
    if (tag := getattr(event, "tag", None)) is not None:
        raise ValueError(f"it has a tag, {tag}.")
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and NUMBER.fullmatch(event.value):
        check_number(event.value)
