"""File systems in image files, which can be copied in an instant: what a power cut would leave.

The images lie on a btrfs, whose ``cp --reflink`` copies a file as it is at one moment. A loop
device with direct input and output writes to them, so the copy has what that device was given,
and nothing of what the file system above keeps in memory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
OPTIONS = {"xfs": ("-o", "nouuid")}  # of a copy whose original is mounted


def run(*command: str | Path) -> str:
    """What a command prints.

    Raises:
        RuntimeError: With what it printed, if it fails.
    """
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def mounted(image: Path, place: Path, options: Sequence[str] = ()) -> Iterator[Path]:
    """A file system in a file, mounted at a new folder; its journal is replayed if need be."""
    with ExitStack() as stack:
        device = run("losetup", "--find", "--show", "--direct-io=on", image)
        stack.callback(run, "losetup", "--detach", device)
        place.mkdir()
        stack.callback(place.rmdir)
        run("mount", *options, device, place)
        stack.callback(run, "umount", place)
        yield place


def make(kind: str, image: Path, size: int) -> None:
    """A new file system of ``size`` bytes in a file."""
    with image.open("wb") as file:
        file.truncate(size)
    run(*MAKE[kind], image)


class Disk:
    """A file system whose power can be cut, any number of times, while it goes on.

    Args:
        kind: ``ext4``, ``xfs`` or ``btrfs``.
        folder: An empty one on a btrfs.
        size: In bytes.
    """

    def __init__(self, kind: str, folder: Path, size: int) -> None:
        self.kind, self.folder = kind, folder
        self.image = folder / "disk.img"
        make(kind, self.image, size)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        with mounted(self.image, self.folder / "disk") as place:
            yield place

    def cut(self, name: str) -> Path:
        """The image as it is now."""
        copy = self.folder / f"{name}.img"
        run("cp", "--reflink=always", self.image, copy)
        return copy

    @contextmanager
    def after(self, copy: Path) -> Iterator[Path]:
        """What is on it when power has come back."""
        with mounted(copy, copy.with_suffix(""), OPTIONS.get(self.kind, ())) as place:
            yield place
