"""The text of a ``config.yaml`` that may come from a stranger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from grokscope.store.text import check_number, read_text

MAX_BYTES = 2**18
MAX_NODES = 20_000
MAX_DEPTH = 50
NUMBER = re.compile(r"[-+]?[0-9][0-9a-fxob_:.+-]*", re.IGNORECASE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEXT, FLOAT, DATE = (f"tag:yaml.org,2002:{name}" for name in ("str", "float", "timestamp"))


class _PlainLoader(LOADER):  # type: ignore[misc, valid-type]
    """Numbers as Hydra's files have them (``1e-3``), no dates, and each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (k.value for k, _ in node.value if k.tag == TEXT):
            if key in seen:
                raise yaml.constructor.ConstructorError(problem=f"it has the key {key!r} twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag != DATE]
    for first, known in LOADER.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    FLOAT, re.compile(r"[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def plain_settings(path: Path) -> dict[Any, Any]:
    """A YAML mapping as plain values: text, numbers, booleans, None, lists and mappings of these.

    Nothing in it is looked up or executed.

    Raises:
        ValueError: If it is none; the file is named.
    """
    try:
        found = yaml.load(settings_text(path), Loader=_PlainLoader)
    except (yaml.YAMLError, OSError, OverflowError, ValueError, TypeError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML of plain values: {words}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a YAML mapping, got {type(found).__name__}.")
    return found


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
