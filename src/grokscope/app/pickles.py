"""Looks through the pickle of a checkpoint before anything loads it."""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

MOST_ENTRIES = 2**21  # each counted as often as it is repeated
CLASSES = re.compile(
    r"collections OrderedDict|_codecs encode|(__builtin__|builtins) set"
    r"|torch (Size|device)|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch\.nn\.parameter Parameter|torch (\w+Storage|b?float\d+|u?int\d+|bool|complex\d+)"
)
LEAVES = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "GLOBAL"),
}
MADE_OF = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2}
ADDED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
TO_MARK = {"APPENDS", "SETITEMS"}
IGNORED = {"PROTO", "STOP"}

KEY, KEYS, NOTHING = "key", "keys", "nothing"
HASHED = {"collections OrderedDict", "builtins set", "__builtin__ set"}
PLAIN_KEYS = {"BININT", "BININT1", "BININT2", "BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE"}
MOST_KEY = 2**63  # of longer numbers, and of tuples, as many as one likes have one hash
OTHER_KEYS = "it has keys other than text and numbers of 64 bits"
ENCODE, AS = "_codecs encode", "latin1"  # how bytes are written; other codecs take n^2 steps


@dataclass(slots=True)
class _Entry:
    """What is on the stack; it may be remembered, and grow.

    Attributes:
        size: Entries in it, itself included.
        what: The name of a class, a text, or of a pair what its second entry is.
        kind: ``KEY`` for what may be a key of a dictionary, ``KEYS`` for a list of such,
            ``NOTHING`` for an empty tuple.
        only: Of a tuple of one entry, that entry.
    """

    size: int = 1
    what: str | None = None
    kind: str = ""
    only: _Entry | None = None


def check_pickle(data: bytes) -> None:
    """Refuse a pickle unlike those that ``torch.save`` writes of tensors and plain values.

    The loader of ``weights_only`` executes nothing, but a pickle may repeat an entry in the next
    one and so on: sixty lines give a key whose hash takes 2^60 steps. So entries are counted as
    often as they are repeated. Nor may a dictionary or a set have keys whose hashes can be made
    equal, since then it takes n^2 steps. Takes about a millisecond for each thousand entries.

    Raises:
        ValueError: Naming what is wrong.
    """
    try:
        _Scales().weigh(data)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"its entries are damaged ({type(error).__name__})") from None


class _Scales:
    """A pickle machine that makes nothing, and keeps the size of each entry only."""

    def __init__(self) -> None:
        self._stack: list[_Entry] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Entry] = {}
        self._seen = 0

    def weigh(self, data: bytes) -> None:
        most = MOST_ENTRIES + 2 * len(data)
        for code, argument, _ in pickletools.genops(data):
            self._step(code.name, argument)
            if self._seen > most:
                raise ValueError("its entries repeat each other without end")

    def _step(self, name: str, argument: Any) -> None:
        if name == "GLOBAL" and not CLASSES.fullmatch(argument):
            raise ValueError(f"it names {argument.replace(' ', '.')}")
        if name in LEAVES:
            self._stack.append(_leaf(name, argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "BINPERSID":
            self._stack[-1] = _Entry()
        elif name == "TUPLE":
            self._stack.append(_Entry(1 + self._taken(self._since_mark())))
        elif name in MADE_OF:
            self._make(name)
        elif name in ADDED or name in TO_MARK:
            self._add(name, ADDED.get(name) or self._since_mark())
        elif name not in IGNORED:
            raise ValueError(f"it has the pickle operation {name}")

    def _make(self, name: str) -> None:
        """A tuple of the upper entries, or what a class makes of one."""
        last = self._stack[-1]
        if name == "REDUCE" and self._stack[-2].what == ENCODE and last.what != AS:
            raise ValueError(f"it has bytes in another form than {AS}")
        hashed = name == "REDUCE" and self._stack[-2].what in HASHED
        if hashed and last.kind != NOTHING and (last.only is None or last.only.kind != KEYS):
            raise ValueError(OTHER_KEYS)
        what = last.what if name == "TUPLE2" else None
        only = last if name == "TUPLE1" else None
        self._stack.append(_Entry(1 + self._taken(MADE_OF[name]), what, only=only))

    def _add(self, name: str, count: int) -> None:
        """Put the upper entries into the list or dictionary below them."""
        added = self._stack[max(0, len(self._stack) - count) :]
        if "SETITEM" in name and any(entry.kind != KEY for entry in added[::2]):
            raise ValueError(OTHER_KEYS)
        size = self._taken(count)
        if self._stack[-1].kind == KEYS and any(entry.kind != KEY for entry in added):
            self._stack[-1].kind = ""
        self._grow(size)

    def _since_mark(self) -> int:
        return len(self._stack) - self._marks.pop()

    def _taken(self, count: int) -> int:
        """Size of the upper entries, which leave the stack."""
        if not 0 <= count <= len(self._stack):
            raise IndexError(count)
        size = sum(entry.size for entry in self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._seen = max(self._seen, size)
        return size

    def _grow(self, size: int) -> None:
        self._stack[-1].size += size
        self._seen = max(self._seen, self._stack[-1].size)


def _leaf(name: str, argument: Any) -> _Entry:
    """What an operation puts on the stack that takes nothing from it."""
    what = argument if isinstance(argument, str) else None
    plain = name in PLAIN_KEYS or (name == "LONG1" and -MOST_KEY <= argument < MOST_KEY)
    kinds = {"EMPTY_LIST": KEYS, "EMPTY_TUPLE": NOTHING}
    return _Entry(1, what, KEY if plain else kinds.get(name, ""))
