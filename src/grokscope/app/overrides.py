"""The command line's mistakes: keys, groups and choices that do not exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grokscope.app.errors import (
    UserError,
    describe_config_error,
    leaves,
    nearest_names,
    refuse,
    unknown_key,
)
from grokscope.store.info import NAME as RUN
from grokscope.store.sweep import NAME as SWEEP

OPEN = ("callbacks", "data", "hydra", "logger", "measures.progress", "model", "net", "trainer")
"""Nodes to which + may add a key: their constructors refuse what they do not know."""

SETTINGS = "config.yaml"  # of a run
MOST_DIGITS = 4000  # Python reads at most 4,300

EXTRAS = {"hydra/sweeper/optuna": "optuna"}
"""Choices that a package brings along, and the extra of ours that installs it."""


def check_arguments() -> None:
    """Refuse options that Hydra's command line does not have; what it prints is longer.

    Refuse a run's own ``config.yaml`` as a configuration, too: its paths are resolved, so it
    would write into that run.
    """
    sweep = [a for a in sys.argv[1:] if a in ("-m", "--multirun")]
    sys.argv[1:] = [*sweep[:1], *(a for a in sys.argv[1:] if a not in sweep)]  # from anywhere
    for typed in sys.argv[1:]:
        if re.search(rf"\d{{{MOST_DIGITS + 1}}}", typed):
            refuse(f"{typed[:50]}... has a number of more than {MOST_DIGITS:,} digits.")
    parser = get_args_parser()
    parser.error = _refuse_option  # type: ignore[method-assign]
    args = vars(parser.parse_args())
    if args["resolve"] and not args["cfg"]:
        refuse("--resolve must come with --cfg job, got --resolve alone.")
    for name in ("config_path", "config_dir"):
        if args[name] and is_of_a_run(Path(args[name])):
            refuse(
                f"--{name.replace('_', '-')} must be a folder of configurations, got "
                f"{args[name]}: it is a run's, which may be a stranger's. Go on with a run by "
                "run=FOLDER; its .hydra/overrides.yaml has what was typed."
            )
    if args["experimental_rerun"] is not None:
        refuse("--experimental-rerun cannot be used: it would execute what a pickle says.")
    names = ("run", "multirun", "cfg", "shell_completion", "info")
    given = " and --".join(name for name in names if args[name])
    if " and " in given:
        refuse(f"only one of --{given} can be given.")


def is_of_a_run(folder: Path) -> bool:
    """Whether a folder is a sweep's or a run's, or lies in a run's."""
    whole = folder.resolve()
    return (whole / SWEEP).exists() or any(
        (place / RUN).exists() and ((place / ".hydra").exists() or (place / SETTINGS).exists())
        for place in (whole, *whole.parents)
    )


def _refuse_option(message: str) -> NoReturn:
    refuse(f"{message}; options such as --cfg job come before settings, see --help.")


def describe_hydra_error(error: Exception, folder: Path, name: str, argv: Sequence[str]) -> str:
    """One line for an error that Hydra or OmegaConf raised while composing."""
    text = str(error)
    if isinstance(error, MissingConfigException) and "Could not find" in text:
        return _unknown_choice(text, argv)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read: write key=value, lists as [1,2], "
            "and quote what has blanks, commas or '=': \"key='a=b'\"."
        )
    if found := re.search(r"Could not append to config\. .* already at '([^']+)'", text):
        return _there_already(found[1])
    if found := re.search(r"(.+) appears more than once in the final defaults list", text):
        return _there_already(found[1])
    if found := re.search(r"The value of '(.+)' is (.+) and not (.+)\.", text):
        return f"{found[1]} is {found[2]} and not {found[3]}: ~{found[1]} leaves it out."
    if found := re.fullmatch(r"Error merging override (.+)", text):
        return f"{found[1]} cannot be set: {str(error.__cause__).partition(chr(10))[0]}"
    if found := re.search(r"Could not (?:override|append|delete)[^']* '([^']+)'", text):
        return unknown_key(found[1], _known_keys(folder, name, found[1], argv))
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return (
            f"{found[1]} holds several values: add --multirun to run each of them, "
            "or write a list as [1,2]."
        )
    if found := re.search(r"Multiple values for (\S+)\.", text):
        return _there_already(found[1])
    if "Config group override must be a string" in text:
        nulls = ", ".join(a for a in argv if a.endswith("=null"))
        return f"a group must be the name of one of its choices, got {nulls}."
    return describe_config_error(error)


def _there_already(key: str) -> str:
    return f"{key} has a value already: write {key}=... once, and without +."


def check_added_keys(config_name: str, overrides: Sequence[str]) -> None:
    """Refuse ``+key=value`` where nobody would read the key.

    Raises:
        UserError: Naming the nearest keys there are.
    """
    added = [o.lstrip("+").partition("=")[0] for o in overrides if o.startswith("+")]
    doubtful = [key for key in added if not _is_open(key.rpartition("@")[2].replace("/", "."))]
    if not doubtful:
        return
    others = [o for o in overrides if o[0] not in "+~" and "," not in o]
    known = set(leaves(OmegaConf.to_container(compose(config_name, others), resolve=False)))
    for key in doubtful:
        if key not in known:
            raise UserError(unknown_key(key, sorted(known)))


def _is_open(key: str) -> bool:
    return any(key == node or key.startswith(f"{node}.") for node in OPEN)


def _unknown_choice(text: str, argv: Sequence[str]) -> str:
    wanted = re.search(r"Could not find '([^']+)'", text)
    name = wanted[1] if wanted else "?"
    if name in EXTRAS:
        return f"{name} must be installed: pip install 'grokscope[{EXTRAS[name]}]'."
    group, _, choice = name.rpartition("/")
    typed = (a.partition("=")[0].lstrip("+") for a in argv if a.endswith(f"={choice}"))
    key = next((k for k in typed if k.partition("@")[0] == group), group)
    options = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
    nearest = nearest_names(choice, options)
    hint = f" (did you mean {nearest}?)" if nearest else ""
    return f"{key} must be one of {', '.join(options)}, got {choice!r}{hint}."


def _known_keys(folder: Path, name: str, wrong: str, argv: Sequence[str]) -> Iterable[str]:
    """Keys and groups of the configuration that the other overrides compose."""
    others = [a for a in argv if "=" in a and a[0] not in "-+~" and not _sets(a, wrong)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        for attempt in (others, [a for a in others if "," not in a], []):
            try:
                config = compose(name, attempt, return_hydra_config=True)
            except (HydraException, OmegaConfBaseException):
                continue
            groups = [g for g in config.hydra.runtime.choices if not g.startswith("hydra/")]
            plain = OmegaConf.to_container(config, resolve=False)
            keys = [k for k in leaves(plain) if wrong.startswith("hydra") or k[:5] != "hydra"]
            return [*groups, *keys]
    return []


def _sets(argument: str, key: str) -> bool:
    return argument.partition("=")[0].partition("@")[0] == key.partition("@")[0]
