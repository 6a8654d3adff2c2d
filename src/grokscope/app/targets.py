"""Which classes and functions a foreign configuration may name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grokscope.app.errors import UserError

TARGET = re.compile(r"^[^#\n]*\b_target_:\s*([\w.]+)", re.MULTILINE)


def allowed_targets(configs: Path) -> set[str]:
    """Every ``_target_`` in our own configuration files."""
    found = (TARGET.findall(p.read_text(encoding="utf-8")) for p in configs.rglob("*.yaml"))
    return {target for targets in found for target in targets}


def check_targets(config: DictConfig, configs: Path) -> None:
    """Refuse a configuration that would call anything else.

    Raises:
        UserError: Naming the key.
    """
    allowed = allowed_targets(configs)
    for key, target in _targets(OmegaConf.to_container(config, resolve=False)):
        if not isinstance(target, str) or target not in allowed:
            raise UserError(f"{key} must name one of our own classes, got {target!r}.")


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for name, child in items:
        key = f"{path}.{name}" if path else str(name)
        if name == "_target_":
            yield key, child
        if isinstance(child, (dict, list)):
            yield from _targets(child, key)
