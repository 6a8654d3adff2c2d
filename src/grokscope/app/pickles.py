"""Looks through the pickle of a checkpoint before anything loads it."""

from __future__ import annotations

import pickletools
import re
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

Size = list[int]  # of one entry, in a list: what contains it may be remembered and grow


def check_pickle(data: bytes) -> None:
    """Refuse a pickle unlike those that ``torch.save`` writes of tensors and plain values.

    The loader of ``weights_only`` executes nothing, but a pickle may repeat an entry in the next
    one and so on: sixty lines give a key whose hash takes 2^60 steps. So entries are counted as
    often as they are repeated. Takes about a millisecond for each thousand entries.

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
        self._stack: list[Size] = []
        self._marks: list[int] = []
        self._memo: dict[int, Size] = {}
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
            self._stack.append([1])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "BINPERSID":
            self._stack[-1] = [1]
        elif name == "TUPLE":
            self._stack.append([1 + self._taken(self._since_mark())])
        elif name in MADE_OF:
            self._stack.append([1 + self._taken(MADE_OF[name])])
        elif name in ADDED or name in TO_MARK:
            count = ADDED.get(name) or self._since_mark()
            self._grow(self._taken(count))
        elif name not in IGNORED:
            raise ValueError(f"it has the pickle operation {name}")

    def _since_mark(self) -> int:
        return len(self._stack) - self._marks.pop()

    def _taken(self, count: int) -> int:
        """Size of the upper entries, which leave the stack."""
        if not 0 <= count <= len(self._stack):
            raise IndexError(count)
        size = sum(entry[0] for entry in self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._seen = max(self._seen, size)
        return size

    def _grow(self, size: int) -> None:
        self._stack[-1][0] += size
        self._seen = max(self._seen, self._stack[-1][0])
