"""What of a stranger's settings may be built, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grokscope.analysis.run import printable
from grokscope.app.errors import UserError, unknown_key
from grokscope.app.signatures import fits, is_path, parameters
from grokscope.app.stored import read_settings, texts
from grokscope.app.targets import (
    CONVERT,
    PARTIAL,
    RESERVED,
    TARGET,
    Place,
    Targets,
    place_of,
    present_folders,
    present_targets,
)
from grokscope.validation import require_int

BUILT = ("data", "net", "model", "measures")
OF_THE_RUN = ("paths", "run", "ckpt_path", "resume")  # say where it lay
MOST_THREADS = 1024
LIKE_A_PATH = ("/", "\\", "~")


def run_settings(folder: Path, config: DictConfig | None = None) -> DictConfig:
    """The run's own configuration, of which data, net, model and measures can be built.

    Every ``_target_`` in it is one that the configurations of the present command build at this
    place, its arguments have their names and types, and paths are those of the present command.
    What says where the run lay is left out.

    Args:
        folder: The run.
        config: Of the present command; None has the default ``paths``.

    Raises:
        UserError: Naming the key that is anything else.
    """
    settings = {k: v for k, v in read_settings(folder).items() if k not in OF_THE_RUN}
    check = _Check(present_targets(), _present_paths(config))
    try:
        checked: dict[str, Any] = check.node(settings, ())
        if isinstance(ticket := checked.get("ticket"), dict):
            ticket.pop("run", None)
        require_int("seed", checked.get("seed"), minimum=0, maximum=2**32 - 1)
        if checked.get("threads") is not None:
            require_int("threads", checked["threads"], maximum=MOST_THREADS)
        return OmegaConf.create(checked)
    except (OmegaConfBaseException, UserError, ValueError) as error:
        words = " ".join(printable(str(error)).split())
        raise UserError(f"{words.rstrip('.')} ({folder / 'config.yaml'}).") from None


def _present_paths(config: DictConfig | None) -> dict[str, Any]:
    """``paths`` of the present command, or the defaults."""
    if config is not None and OmegaConf.is_dict(config.get("paths")):
        return dict(OmegaConf.to_container(config.paths, resolve=False))  # type: ignore[arg-type]
    for folder in present_folders():
        if (path := folder / "paths" / "default.yaml").is_file():
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return {}


@dataclass(frozen=True)
class _Check:
    """Goes through a stored configuration and makes a new one of what is allowed.

    Attributes:
        targets: What may be built, and where.
        paths: Of the present command.
    """

    targets: Targets
    paths: dict[str, Any]

    def node(self, value: Any, keys: tuple[Any, ...]) -> Any:
        """A copy of a part of the tree."""
        if isinstance(value, list):
            return [self.node(child, (*keys, number)) for number, child in enumerate(value)]
        if not isinstance(value, dict):
            return value
        for name in value:
            if not isinstance(name, str):
                raise UserError(f"{_dotted(keys)} must have text for its keys, got {name!r}.")
        if TARGET in value:
            return self._call(value, keys)
        for name in filter(RESERVED.fullmatch, value):
            raise UserError(f"{_dotted((*keys, name))} must stand beside a {TARGET}.")
        return {name: self.node(child, (*keys, name)) for name, child in value.items()}

    def _call(self, node: dict[str, Any], keys: tuple[Any, ...]) -> dict[str, Any]:
        place, name = place_of(keys), node[TARGET]
        if not isinstance(name, str) or not self.targets.allows(place, name):
            key = _dotted((*keys, TARGET))
            raise UserError(f"{key} must name one of our own classes, got {name!r}.")
        self._check_reserved(node, place, keys)
        known, more = parameters(_found(name, keys), partial=PARTIAL in node)
        checked = {key: value for key, value in node.items() if RESERVED.fullmatch(key)}
        for argument, value in node.items():
            key = _dotted((*keys, argument))
            if argument in checked:
                continue
            if argument not in known and not (more and argument.isidentifier()):
                names = [_dotted((*keys, each)) for each in known]
                raise UserError(unknown_key(key, names, of=f" of {name}"))
            kind = known.get(argument, Any)
            if value is not None and is_path(argument, kind):
                checked |= self._path(place, name, argument, key)
                continue
            if not fits(value, kind):
                raise UserError(f"{key} must be {_words(kind)}, got {_short(value)}.")
            if keys[0] in BUILT:
                self._check_texts(value, self.targets.written(place, name, argument), key)
            checked[argument] = self.node(value, (*keys, argument))
        return checked

    def _check_reserved(self, node: dict[str, Any], place: Place, keys: tuple[Any, ...]) -> None:
        """``_partial_`` where our configurations have it, ``_convert_`` as they have it."""
        for name in filter(RESERVED.fullmatch, node):
            right = name == TARGET or (name == CONVERT and node[name] == "all")
            if name == PARTIAL:
                right = node[name] is True and place in self.targets.partial
            if not right:
                key, came = _dotted((*keys, name)), _short(node[name])
                raise UserError(f"{key} must not be in a run's settings, got {came}.")

    def _path(self, place: Place, name: str, argument: str, key: str) -> dict[str, str]:
        """The path that the present command gives, never the run's."""
        if place[0] not in BUILT:
            return {}
        for raw in self.targets.written(place, name, argument):
            try:
                found = OmegaConf.create({"paths": self.paths, "value": raw}).value
            except (OmegaConfBaseException, ValueError):
                continue
            if isinstance(found, (str, int)):
                return {argument: str(found)}
        raise UserError(
            f"{key} must stand in the configuration file that names {name}, such as "
            f"{argument}: ${{paths.data_dir}}: a path is never taken from a run."
        )

    def _check_texts(self, value: Any, written: list[Any], key: str) -> None:
        """Refuse a text that may name a file, unless it is one of the user's own configuration."""
        for _, text in texts(value) if not isinstance(value, dict) else ():
            if any(sign in text for sign in LIKE_A_PATH) and value not in written:
                raise UserError(f"{key} must not look like a path, got {_short(text)}.")


def _found(name: str, keys: Sequence[Any]) -> Any:
    try:
        return get_object(name)
    except (HydraException, ValueError, ImportError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{_dotted((*keys, TARGET))} must name a class, got {words}") from error


def _dotted(keys: Sequence[Any]) -> str:
    return printable(".".join(map(str, keys))) or "config.yaml"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _words(kind: Any) -> str:
    """A type as it is written."""
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
