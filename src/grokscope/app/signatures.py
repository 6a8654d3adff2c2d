"""What a class or function takes, by name and type, where the values are a stranger's."""

from __future__ import annotations

import inspect
import os
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from grokscope.app.targets import TARGET

PLAIN: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    type(None): (type(None),),
    None: (type(None),),
}
PATHS = (os.PathLike, Path)
PATH_NAME = re.compile(
    r"(.*_)?(dir|directory|path|paths|file|files|filename|folder|root|url|uri)", re.IGNORECASE
)
STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(target: Any, *, partial: bool) -> tuple[dict[str, Any], bool]:
    """Arguments by name with their types (Any where none is written), and whether others may be.

    Where a constructor hands on what it does not know (``**settings``), those of its parents
    count too; of one that is not ours, others may be.

    Args:
        target: A class or a function.
        partial: Whether its first argument comes later.
    """
    makers = [target]
    if isinstance(target, type):
        makers = [c.__dict__["__init__"] for c in target.__mro__ if "__init__" in c.__dict__]
    skipped = isinstance(target, type) + partial  # self
    found: dict[str, Any] = {}
    more = False
    for maker in makers:
        given = _signature(maker)[skipped:]
        found = {p.name: p.annotation for p in given if p.kind not in STARS} | found
        more = any(p.kind is p.VAR_KEYWORD for p in given)
        if not more:
            break
        more = not str(target.__module__).startswith("grokscope.")
    return found, more


def _signature(maker: Any) -> list[inspect.Parameter]:
    """Its parameters, with types for annotations where they can be found."""
    inner: Any = inspect.unwrap(maker)
    try:
        hints = get_type_hints(vars(inner)["__init__"] if isinstance(inner, type) else inner)
    except (AttributeError, NameError, TypeError):  # a name that is there for type checkers only
        hints = {}
    written = inspect.signature(maker).parameters.values()
    return [p.replace(annotation=hints.get(p.name, _unwritten(p))) for p in written]


def _unwritten(parameter: inspect.Parameter) -> Any:
    given = parameter.annotation
    return Any if given is parameter.empty or isinstance(given, str) else given


def is_path(name: str, kind: Any) -> bool:
    """Whether an argument names a file or folder: by its type, else if it is text by its name."""
    if any(each in PATHS or get_origin(each) in PATHS for each in _choices(kind)):
        return True
    text = kind is Any or str in _choices(kind)
    return text and PATH_NAME.fullmatch(name) is not None


def fits(value: Any, kind: Any) -> bool:
    """Whether plain data have a type; a call in their place, which is checked by itself, fits."""
    if isinstance(value, dict) and TARGET in value:
        return True
    return any(_fits_one(value, each) for each in _choices(kind))


def _choices(kind: Any) -> tuple[Any, ...]:
    """The types of a union, of which there may be one."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(choice for each in get_args(kind) for choice in _choices(each))
    return (kind,)


def _fits_one(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Any or kind is object:
        return True
    if kind in PLAIN:
        return isinstance(value, PLAIN[kind]) and (kind is bool or not isinstance(value, bool))
    if origin is Literal:
        return value in inner
    if not isinstance(origin, type):
        return False
    if isinstance(value, list) and issubclass(origin, Sequence) and origin is not str:
        return _fits_list(value, origin, inner)
    if isinstance(value, dict) and issubclass(origin, Mapping):
        names, values = inner or (Any, Any)
        return all(fits(k, names) and fits(v, values) for k, v in value.items())
    return False


def _fits_list(value: list[Any], origin: type, inner: tuple[Any, ...]) -> bool:
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        pairs = zip(value, inner, strict=False)
        return len(value) == len(inner) and all(fits(each, kind) for each, kind in pairs)
    return all(fits(each, inner[0]) for each in value) if inner else True
