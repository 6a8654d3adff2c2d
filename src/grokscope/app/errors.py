"""A user's mistake in one line that names the key, what came, and what is allowed."""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from functools import reduce
from typing import Any, NoReturn

from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grokscope.app.unexpected import (
    describe_unexpected,
    is_of_lightning,
    is_of_system,
    is_own_refusal,
)
from grokscope.store.nofollow import NotPlainFileError

TRACEBACK = "GROKSCOPE_TRACEBACK"  # set from HYDRA_FULL_ERROR, which the command line itself sets
MOST_LETTERS = 4000  # of a line; the longest that we write lists the experiments
REFUSALS = (ValueError, TypeError, OSError, ImportError, MisconfigurationException)


class UserError(Exception):
    """Something that the user can put right; shown as one line, without a traceback.

    Attributes:
        hint: What the line says besides the message.
    """

    hint = ""

    def __str__(self) -> str:
        """The message; what would command a terminal may be a stranger's and is left out."""
        return "".join(
            c if c.isprintable() or c.isspace() else "\ufffd" for c in super().__str__()
        )


class UnexpectedError(UserError):
    """Something that nobody has foreseen, such as an exception in the user's own callback."""

    hint = "; HYDRA_FULL_ERROR=1 shows the traceback."


def refuse(message: str) -> NoReturn:
    """Print one line and leave with exit code 1."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exc()
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(1)


def one_line(text: str) -> str:
    """Without line breaks and what else would move the cursor of a terminal."""
    words = " ".join(text.split())
    if len(words) > MOST_LETTERS:
        words = f"{words[: MOST_LETTERS // 2]} ... {words[-MOST_LETTERS // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def as_user_error(error: Exception, config: DictConfig) -> UserError:
    """Any exception as one that has a line for the user.

    Args:
        error: What was raised.
        config: The whole configuration, to name the key as the user writes it.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, InstantiationException):
        return UserError(describe_instantiation_error(error, config))
    if isinstance(error, OmegaConfBaseException):
        return UserError(describe_config_error(error))
    if isinstance(error, MisconfigurationException):  # of Lightning, when it is about to train
        return UserError(explain("trainer", _text(error), config))
    if is_of_lightning(error):
        return UserError(explain("trainer", f"{type(error).__name__}: {_text(error)}", config))
    if type(error).__module__.partition(".")[0] == "wandb":
        return UserError(f"logger.wandb: {error}")
    if is_own_refusal(error):
        return UserError(str(error))
    if isinstance(error.__cause__, NotPlainFileError):  # of a log that Hydra opens
        return UserError(str(error.__cause__))
    if is_of_system(error):
        return UserError(f"{error.filename}: {error.strerror}.")  # type: ignore[attr-defined]
    return UnexpectedError(describe_unexpected(error))


@contextmanager
def one_line_errors(config: DictConfig, where: str = "") -> Iterator[None]:
    """Turn refusals of constructors into :class:`UserError`.

    Args:
        config: The whole configuration, to name the key as the user writes it.
        where: The node whose values are checked, for errors that do not say it themselves.
    """
    try:
        yield
    except InstantiationException as error:
        raise UserError(describe_instantiation_error(error, config, where)) from error
    except OmegaConfBaseException as error:
        raise UserError(describe_config_error(error)) from error
    except REFUSALS as error:
        raise UserError(explain(where, _text(error), config)) from error


def describe_instantiation_error(
    error: InstantiationException, config: DictConfig, node: str = ""
) -> str:
    """The constructor's own message, its key put before it: Hydra's, or this node."""
    where = re.search(r"full_key: (\S+)", str(error))
    cause = error.__cause__ or error
    foreseen = isinstance(cause, (*REFUSALS, HydraException, UserError))
    text = _text(cause) if foreseen else describe_unexpected(cause)
    return explain(where[1] if where else node, text, config)


def describe_config_error(error: Exception) -> str:
    """OmegaConf's message, its key put before it."""
    where = re.search(r"full_key: (\S+)", str(error))
    text = str(error).partition("\n")[0] or type(error).__name__
    if own := re.match(r"UserError raised while resolving interpolation: (.*)", text):
        return own[1]
    return f"{where[1]}: {text}" if where and where[1] not in text else text


def explain(where: str, message: str, config: DictConfig) -> str:
    """Name the dotted key in a message that starts with a constructor's argument.

    ``callbacks.gop`` and ``top_k must be ...`` give ``measures.top_k must be ...``, since the
    configuration takes that value from there.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    if found := re.search(
        r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword .*'(\w+)'", message
    ):
        key = f"{where}.{found[2]}"
        for known in _settings_of(plain, where):
            if nearest_names(key, known):
                return unknown_key(key, known, of=f" of {found[1]}")
        left_out = " ".join(f"'~{where}.{name}'" for name in _not_taken(plain, where, found[2]))
        return f"{key} is not a setting of {found[1]}; to leave out what it has not: {left_out}"
    first = re.match(r"[\w.]*\w|", message)[0]  # type: ignore[index]
    starts = [where, where.rpartition(".")[0], *([""] if "." in first else [])]
    for key in (f"{start}.{first}".lstrip(".") for start in starts):
        if _lookup(plain, key) is not None:
            return _origin(plain, key) + message[len(first) :]
    for name in re.findall(r"`?(\w+)(?:=|`)", message):
        if (value := _lookup(plain, f"{where}.{name}")) is not None:
            return f"{where}.{name}={value}: {message}"
    return f"{where}: {message}" if where else message


def _settings_of(plain: Any, where: str) -> Iterator[list[str]]:
    """Keys that may be meant instead of one that a constructor refuses: there, or possible."""
    node = reduce(lambda inner, part: inner[part], where.split("."), plain)
    taken = _taken(node) or node
    yield [f"{where}.{name}" for name in node if name in taken]
    yield [f"{where}.{name}" for name in taken]


def _not_taken(plain: Any, where: str, refused: str) -> list[str]:
    """Names in a node that its constructor does not take."""
    node = reduce(lambda inner, part: inner[part], where.split("."), plain)
    taken = _taken(node)
    if taken is None:
        return [refused]
    return [name for name in node if name not in taken and not name.startswith("_")]


def _taken(node: Any) -> Iterable[str] | None:
    """What the constructor of a node takes; None if that is not known."""
    try:
        return inspect.signature(get_object(node["_target_"])).parameters
    except (HydraException, KeyError, TypeError, ValueError):
        return None


def unknown_key(key: str, known: Iterable[str], of: str = "") -> str:
    """One line for a key that does not exist."""
    nearest = nearest_names(key, known)
    hint = f"did you mean {nearest}?" if nearest else "see --cfg job for the keys there are."
    return f"{key} is not a setting{of}; {hint}"


def nearest_names(wrong: str, known: Iterable[str]) -> str:
    """Up to two names whose last part is close, joined by "or"; ``group@package`` first."""
    known = list(known)
    if packages := [name for name in known if name.startswith(f"{wrong}@")]:
        return " or ".join(packages)
    tails: dict[str, list[str]] = {}
    for name in dict.fromkeys(known):
        if name != wrong:
            tails.setdefault(name.rpartition(".")[2], []).append(name)
    close = get_close_matches(wrong.rpartition(".")[2], tails, n=2, cutoff=0.65)
    found = [name for tail in close for name in tails[tail]]
    found.sort(key=lambda name: -SequenceMatcher(None, wrong, name).ratio())
    return " or ".join(found[:2])


def leaves(plain: Any) -> Iterator[str]:
    """Every dotted key of nested mappings, the inner nodes included."""
    stack = [("", plain)]
    while stack:
        path, node = stack.pop()
        if path:
            yield path
        if isinstance(node, dict):
            stack += [(f"{path}.{k}" if path else str(k), v) for k, v in node.items()]


def _text(error: BaseException) -> str:
    """The message without Hydra's last line, which repeats the key."""
    return re.sub(r"\s*full_key: \S+\s*$", "", str(error)) or type(error).__name__


def _lookup(plain: Any, key: str) -> Any:
    """The raw value at a dotted key, "" for null; None if there is no such key."""
    node = plain
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return "" if node is None else node


def _origin(plain: Any, key: str) -> str:
    """The key that ``key`` takes its value from by plain interpolation, else itself."""
    source = re.fullmatch(r"\$\{([\w.]+)\}", str(_lookup(plain, key)))
    return _origin(plain, source[1]) if source and source[1] != key else key
