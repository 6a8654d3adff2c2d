"""Which of the states that a cut could leave are tried."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from cut_files import File
from cut_volume import Volume

MODELS = {"names in order": True, "names in any order": False}
LIKELY = (0.1, 0.5, 0.9)  # that the newest version of a page is there, in random states


@dataclass
class Kept:
    """All or nothing of each sort: names, data, sizes.

    Attributes:
        ordered: Which model of names holds.
        names, data, sizes: Whether what is unsynced of them is there.
        without: A file of whose data and size nothing is there.
        lost_name: The one operation on names that is not there.
    """

    ordered: bool
    names: bool
    data: bool
    sizes: bool
    without: File | None = None
    lost_name: int | None = None

    def namings(self, open: list[int]) -> set[int]:
        return set(open) - {self.lost_name} if self.names else set()

    def page(self, file: File, versions: int) -> int:
        return versions if self.data and file is not self.without else 0

    def size(self, file: File, sizes: int) -> int:
        return sizes - 1 if self.sizes and file is not self.without else 0


@dataclass
class Drawn:
    """Each page, size and name by chance.

    Attributes:
        ordered: Which model of names holds.
        draw: Where the chance comes from.
        likely: That the newest version of a page is there.
    """

    ordered: bool
    draw: random.Random
    likely: float

    def namings(self, open: list[int]) -> set[int]:
        if self.ordered:
            return set(open[: self.draw.randint(0, len(open))])
        return {i for i in open if self.draw.random() < self.likely}

    def page(self, file: File, versions: int) -> int:
        return versions if self.draw.random() < self.likely else self.draw.randint(0, versions)

    def size(self, file: File, sizes: int) -> int:
        return sizes - 1 if self.draw.random() < self.likely else self.draw.randrange(sizes)


Chooser = Kept | Drawn


def choosers(volume: Volume, model: str, draw: random.Random) -> Iterator[tuple[str, Chooser]]:
    """Every sort of state at this moment, by its name."""
    ordered = MODELS[model]
    yield "nothing unsynced", Kept(ordered, False, False, False)
    yield "all names, no data", Kept(ordered, True, False, False)
    yield "all names and sizes, no data", Kept(ordered, True, False, True)
    yield "all data, no names", Kept(ordered, False, True, True)
    yield "everything", Kept(ordered, True, True, True)
    if files := volume.unsynced_files():
        without = draw.choice(files)
        yield "a file's data lost", Kept(ordered, True, True, True, without=without)
    if not ordered and (names := volume.open_namings(ordered)):
        lost = draw.choice(names)
        yield "an operation on names lost", Kept(ordered, True, True, True, lost_name=lost)
    for likely in LIKELY:
        yield "by chance", Drawn(ordered, draw, likely)
