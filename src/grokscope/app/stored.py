"""The ``config.yaml`` of a run that may come from anybody, as data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grokscope.analysis.run import printable
from grokscope.analysis.settings import plain_settings
from grokscope.app.errors import UserError

INTERPOLATION, MISSING = "${", "???"


def read_settings(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a run as plain values; nothing in it is looked up or executed.

    Raises:
        UserError: If it cannot be read, or is not plain.
    """
    path = folder / "config.yaml"
    try:
        settings = plain_settings(path)
        for key, text in texts(settings):
            if INTERPOLATION in text or text == MISSING:
                where = ".".join(key) or "its top"
                raise ValueError(
                    f"{path} has {text[:80]!r} at {where}: a run's own settings are plain values."
                )
    except (OSError, ValueError) as error:
        words = printable(str(error))
        raise UserError(f"run must have a readable config.yaml, got {words}") from None
    return settings


def texts(node: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in a tree, names included, and where it is."""
    if isinstance(node, str):
        yield keys, node
    elif isinstance(node, dict):
        for name, child in node.items():
            if isinstance(name, str):
                yield keys, name
            yield from texts(child, (*keys, str(name)))
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from texts(child, (*keys, str(number)))


def value_at(settings: Any, key: str, default: Any = None) -> Any:
    """What a dotted key has in plain settings."""
    for name in key.split("."):
        if not isinstance(settings, dict) or name not in settings:
            return default
        settings = settings[name]
    return settings


def typed_values(config: DictConfig, key: str, settings: DictConfig) -> dict[str, Any]:
    """What was chosen by the present command under a key, which may refer to a run's settings.

    ``${data.modulus}`` there is the run's; what the run has is a value, and never looked up again.

    Raises:
        UserError: If the values together make a reference, or choose what is built.
    """
    typed = OmegaConf.to_container(config[key], resolve=False)
    plain: dict[str, Any] = OmegaConf.to_container(settings, resolve=False)  # type: ignore[assignment]
    found: Any = OmegaConf.to_container(OmegaConf.create(plain | {key: typed})[key], resolve=True)
    for where, text in texts(found):
        if INTERPOLATION in text:
            raise UserError(f"{'.'.join((key, *where))} must be a plain value, got {text!r}.")
    for where, text in texts(typed):
        if where[-1:] and where[-1].startswith("_") and INTERPOLATION in text:
            raise UserError(f"{'.'.join((key, *where))} must be written out, got {text!r}.")
    return dict(found)
