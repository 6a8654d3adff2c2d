"""Says in one line what an exception is that nobody has foreseen."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

PACKAGE = Path(__file__).resolve().parents[1]
OTHERS = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
MOST_LETTERS = 500
Place = tuple[FrameType, int]


def describe_unexpected(error: BaseException) -> str:
    """Type, message, and the line in the user's own code, else in ours, where it was raised."""
    text = " ".join(str(error).split())
    text = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
    words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    places = list(traceback.walk_tb(error.__traceback__))
    if not places:
        return words
    own = [place for place in places if not _is_within(place, [PACKAGE, *OTHERS])]
    ours = [p for p in places if _is_within(p, [PACKAGE]) and not _is_within(p, [PACKAGE / "app"])]
    frame, line = (own or ours or places)[-1]
    return f"{words} ({_name(frame)}:{line})"


def is_own_refusal(error: BaseException) -> bool:
    """Whether a ``raise`` of ours made an error of a kind that is for the user to read."""
    places = list(traceback.walk_tb(error.__traceback__))
    if not isinstance(error, (ValueError, OSError, ArithmeticError)) or not places:
        return False
    frame, line = places[-1]
    words = linecache.getline(frame.f_code.co_filename, line).split()
    return _is_within(places[-1], [PACKAGE]) and words[:1] == ["raise"] and len(words) > 1


def is_of_system(error: BaseException) -> bool:
    """Whether the system refuses a file that it names, with nothing of the user's in between."""
    told = isinstance(error, OSError) and error.filename is not None and error.strerror is not None
    return told and not is_users_own(error)


def is_users_own(error: BaseException) -> bool:
    """Whether it was raised in code of the user's, or in what that called."""
    places = traceback.walk_tb(error.__traceback__)
    return any(not _is_within(place, [PACKAGE, *OTHERS]) for place in places)


def is_of_lightning(error: BaseException) -> bool:
    """Whether Lightning itself raised, with nothing of the user's or of ours in between."""
    places = list(traceback.walk_tb(error.__traceback__))
    names = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in places]
    last = len(names) - 1 - names[::-1].index("grokscope") if "grokscope" in names else -1
    between = set(names[last + 1 : -1]) - {"lightning", "lightning_utilities"}
    ours = not between - {"contextlib"} and not is_users_own(error)
    return bool(names) and names[-1] == "lightning" and ours


def _is_within(place: Place, folders: list[Path]) -> bool:
    path = Path(place[0].f_code.co_filename)
    whole = path.resolve()
    return path.name.startswith("<") or any(whole.is_relative_to(folder) for folder in folders)


def _name(frame: FrameType) -> str:
    """Of a file, as one knows it."""
    path = Path(frame.f_code.co_filename).resolve()
    for base in (PACKAGE.parent, *OTHERS, Path.cwd()):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)
