"""A user's mistake in one line that names the key, what came, and what is allowed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """Something that the user can put right; shown as one line, without a traceback."""


def refuse(message: str) -> NoReturn:
    """Print one line and leave with exit code 1."""
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(1)


def describe_hydra_error(error: Exception, folder: Path, name: str, argv: Sequence[str]) -> str:
    """One line for an error that Hydra or OmegaConf raised while composing."""
    if isinstance(error, MissingConfigException) and "Could not find" in str(error):
        return _unknown_choice(str(error))
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is not an override; write key=value."
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'|Could not append .*'([^']+)'", text):
        key = found[1] or found[2]
        return _unknown_key(key, folder, name, argv)
    return text.splitlines()[0] if text else type(error).__name__


def describe_instantiation_error(error: InstantiationException) -> str:
    """The constructor's own message, the config group put before it."""
    where = re.search(r"full_key: (\S+)", str(error))
    cause = error.__cause__ or error
    message = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    return f"{where[1]}: {message}" if where else message


def _unknown_choice(text: str) -> str:
    wanted = re.search(r"Could not find '([^']+)'", text)
    group, _, choice = (wanted[1] if wanted else "?").rpartition("/")
    options = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
    nearest = nearest_names(choice, options)
    hint = f"did you mean {nearest}? " if nearest else ""
    return f"{group}={choice} does not exist; {hint}Allowed: {', '.join(options)}."


def _unknown_key(key: str, folder: Path, name: str, argv: Sequence[str]) -> str:
    """Names the nearest keys of the configuration that the other overrides compose."""
    others = [a for a in argv if "=" in a and not _is_override_of(a, key) and a[0] not in "-+~"]
    known = list(_known_keys(folder, name, others))
    nearest = nearest_names(key, known)
    hint = f"did you mean {nearest}?" if nearest else "see --cfg job for the keys there are."
    return f"{key} is not a setting; {hint}"


def _is_override_of(argument: str, key: str) -> bool:
    return argument.partition("=")[0].lstrip("+~").partition("@")[0] == key


def _known_keys(folder: Path, name: str, overrides: list[str]) -> Iterable[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        for attempt in (overrides, []):
            try:
                config = compose(name, overrides=attempt)
            except (HydraException, OmegaConfBaseException):
                continue
            groups = [p.name for p in folder.iterdir() if p.is_dir()]
            return [*_leaves(config), *groups]
    return []


def _leaves(config: DictConfig, prefix: str = "") -> Iterable[str]:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    stack = [(prefix, plain)]
    while stack:
        path, node = stack.pop()
        if path:
            yield path
        if isinstance(node, dict):
            stack += [(f"{path}.{k}" if path else str(k), v) for k, v in node.items()]


def nearest_names(wrong: str, known: Iterable[str]) -> str:
    """Up to three close names, joined by "or"; also by the last part of a dotted name."""
    known = list(dict.fromkeys(known))
    last = wrong.rpartition(".")[2]
    close = get_close_matches(wrong, known, n=2, cutoff=0.6)
    tails = {name.rpartition(".")[2]: name for name in reversed(known)}
    close += [tails[t] for t in get_close_matches(last, tails, n=2, cutoff=0.75)]
    return " or ".join(list(dict.fromkeys(close))[:3])
