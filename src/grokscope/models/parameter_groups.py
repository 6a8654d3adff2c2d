"""Optimizer settings that differ among a net's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    overrides: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Groups as ``torch.optim`` takes them: one for each pattern, and one for the rest.

    Args:
        named: Trainable parameters by name.
        overrides: Regular expression -> settings, such as ``{"embedding": {"lr": 1e-3}}``. A
            parameter belongs to the first that is found somewhere in its name.

    Raises:
        ValueError: For a pattern that is not one, or that no parameter matches.
    """
    patterns = {text: _compiled(text) for text in overrides}
    rest: list[nn.Parameter] = []
    groups: dict[str, list[nn.Parameter]] = {text: [] for text in overrides}
    names = []
    for name, parameter in named:
        names.append(name)
        found = next((groups[text] for text in overrides if patterns[text].search(name)), rest)
        found.append(parameter)
    for text in overrides:
        if not groups[text]:
            raise ValueError(
                f"parameter_settings.{text} must match a parameter that no earlier pattern has, "
                f"got parameters {', '.join(names)}."
            )
    chosen = [{"params": groups[text], **settings} for text, settings in overrides.items()]
    return [{"params": rest}, *chosen] if rest else chosen


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"parameter_settings must map regular expressions, got {text!r}: {error}."
        ) from None
