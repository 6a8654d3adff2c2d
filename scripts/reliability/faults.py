"""How a call of each kind can go wrong."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from shim import FAIL, HALF, NOTHING

TAKES_SPACE = ("create", "write", "allocate", "mkdir", "link", "fsync")
TOUCHES_DISK = (*TAKES_SPACE, "open", "truncate", "rename", "unlink", "rmdir", "close")


@dataclass(frozen=True)
class Fault:
    """What happens to one call, and perhaps to later ones.

    Attributes:
        name: For people.
        mode: What the call does.
        error: Its ``errno``, if it fails.
        then: Kinds of calls that fail with that error from then on.
    """

    name: str
    mode: int
    error: int = 0
    then: tuple[str, ...] = ()


def _once(*names: str) -> tuple[Fault, ...]:
    return tuple(Fault(name, FAIL, getattr(errno, name)) for name in names)


SHORT = Fault("short count", HALF)
ZERO = Fault("count of 0", NOTHING)
FILLING = Fault("short count, then ENOSPC", HALF, errno.ENOSPC, TAKES_SPACE)
FULL = Fault("ENOSPC from then on", FAIL, errno.ENOSPC, TAKES_SPACE)
DEAD = Fault("EIO from then on", FAIL, errno.EIO, TOUCHES_DISK)
NO_LOCKS = Fault("ENOLCK from then on", FAIL, errno.ENOLCK, ("lock",))

FAULTS: dict[str, Sequence[Fault]] = {
    "open": (*_once("EIO", "EINTR"), DEAD),
    "create": (*_once("EIO", "ENOSPC", "EDQUOT", "EINTR"), FULL, DEAD),
    "write": (*_once("EIO", "ENOSPC", "EDQUOT", "EINTR"), SHORT, ZERO, FILLING, FULL, DEAD),
    "truncate": (*_once("EIO", "ENOSPC", "EINTR"), DEAD),
    "allocate": (*_once("EIO", "ENOSPC", "EINTR", "EOPNOTSUPP"), FULL, DEAD),
    "fsync": (*_once("EIO", "ENOSPC", "EDQUOT", "EINTR"), FULL, DEAD),
    "rename": (*_once("EIO", "ENOSPC", "EINTR"), DEAD),
    "unlink": (*_once("EIO", "EINTR"), DEAD),
    "mkdir": (*_once("EIO", "ENOSPC", "EDQUOT", "EINTR"), FULL, DEAD),
    "rmdir": (*_once("EIO", "EINTR"), DEAD),
    "link": (*_once("EIO", "ENOSPC", "EDQUOT", "EINTR"), FULL, DEAD),
    "close": (*_once("EIO", "ENOSPC", "EINTR"), DEAD),
    "mmap": _once("ENOMEM", "ENODEV"),
    "lock": (*_once("ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINTR"), NO_LOCKS),
}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
HARMLESS = {"EINTR", SHORT.name, ZERO.name}  # of a call that can be made again: the run goes on
