"""CIFAR-10 as tensors, from the binary version of the files; nothing is unpickled."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.download import answers, download
from grokscope.store.replacing import replacing
from grokscope.validation import require_bool, require_int

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""Of the archive, as its page lists it."""

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32
LARGEST = 10_000 * RECORD

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
"""Of the channels, as Humayun et al. 2024 (and many others) normalise."""


class CIFAR10DataModule(TensorDataModule):
    """Photographs of ten kinds: ``inputs`` (n, 3, 32, 32) float32, ``targets`` (n,) int64.

    Values are normalised by channel, to within -2.4291 and 2.7537. The six files of the *binary*
    version lie in ``data_dir`` or in its ``cifar-10-batches-bin``, or come from the archive
    ``cifar-10-binary.tar.gz`` there, which is downloaded and checked where it is missing.

    Args:
        data_dir: The folder.
        n_train: Training images, the first ones; None takes all there are.
        n_test: Test images, the first ones; None takes all there are.
        n_recorded: Training images of which loss and accuracy are recorded, the first ones; None
            takes all.
        batch_size: Images an optimizer step sees; ``None`` is the full training set.
        seed: Seeds the order of the mini-batches.
        download: Whether the archive may be fetched.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a wrong file.
        FileNotFoundError: In ``setup``, where files are missing and cannot be had.

    Source:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        n_train: int | None = None,
        n_test: int | None = None,
        n_recorded: int | None = None,
        batch_size: int | None = 256,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if not isinstance(data_dir, (str, os.PathLike)):
            raise ValueError(f"data_dir must be the path of a folder, got {data_dir!r}.")
        self.data_dir = Path(data_dir).expanduser()
        counts = {"n_train": n_train, "n_test": n_test, "n_recorded": n_recorded}
        for name, count in counts.items():
            if count is not None:
                require_int(name, count)
        self.n_train, self.n_test, self.n_recorded = n_train, n_test, n_recorded
        self.download = require_bool("download", download)

    def prepare_data(self) -> None:
        """Fetch missing files, in one process a node."""
        self._paths()

    def make_splits(self) -> tuple[Split, Split]:
        """Read the files, fetching missing ones first, and take the subsets."""
        paths = self._paths()
        train = _split(paths[: len(TRAIN)], "n_train", self.n_train)
        test = _split(paths[len(TRAIN) :], "n_test", self.n_test)
        if self.n_recorded is not None and self.n_recorded < len(train):
            self.recorded_train = train[: self.n_recorded]
        return train, test

    def _paths(self) -> list[Path]:
        """The files, the test batch last."""
        names = (*TRAIN, *TEST)
        found = [self._find(name) for name in names]
        reason = ""
        if None in found:
            reason = _fetch(self.data_dir) if self.download else "download=False"
            if (archive := self.data_dir / Path(URL).name).is_file():
                _unpack(archive, self.data_dir / FOLDER)
            found = [self._find(name) for name in names]
        if missing := [name for name, path in zip(names, found, strict=True) if path is None]:
            raise FileNotFoundError(
                f"CIFAR-10 needs {', '.join(names)} in {self.data_dir} or its {FOLDER}; "
                f"{', '.join(missing)} missing ({reason})."
            )
        return [path for path in found if path is not None]

    def _find(self, name: str) -> Path | None:
        paths = (folder / name for folder in (self.data_dir, self.data_dir / FOLDER))
        return next((path for path in paths if path.is_file()), None)


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 3, 32, 32) and labels (n,) of one file: a byte and 3,072 bytes each.

    Raises:
        ValueError: If the file is none, naming it.
    """
    size = path.stat().st_size
    if size > LARGEST or not size or size % RECORD:
        raise ValueError(
            f"{path} must hold at most 10,000 images of {RECORD:,} bytes, got {size:,} bytes."
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD)
    if (largest := records[:, 0].max()) > 9:
        raise ValueError(f"{path} must hold labels of 0 to 9, got {largest}.")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def normalised(images: NDArray[np.uint8]) -> torch.Tensor:
    """Bytes (n, 3, 32, 32) as numbers with the mean and deviation of their channel taken out."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return torch.from_numpy(images).to(torch.float32).div_(255).sub_(mean).div_(std)


def _split(paths: list[Path], name: str, count: int | None) -> Split:
    pairs = [read_batch(path) for path in paths]
    images, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    if count is not None and count > len(labels):
        raise ValueError(f"{name} must be at most {len(labels)}, got {count}.")
    return Split(normalised(images[:count]), torch.from_numpy(labels[:count]).to(torch.int64))


def _unpack(archive: Path, folder: Path) -> None:
    """Write the six files that are missing, and nothing else that the archive may hold."""
    folder.mkdir(exist_ok=True)
    try:
        with tarfile.open(archive) as packed:
            for name in (*TRAIN, *TEST):
                if not (folder / name).exists():
                    _extract(packed, folder / name)
    except (tarfile.TarError, EOFError, KeyError, zlib.error) as error:
        raise ValueError(f"{archive} is damaged or another archive: {error}.") from None


def _extract(packed: tarfile.TarFile, path: Path) -> None:
    member = packed.getmember(f"{FOLDER}/{path.name}")
    content = packed.extractfile(member)
    if content is not None and member.size <= LARGEST:
        with replacing(path) as draft:
            draft.write(content.read())


def _fetch(folder: Path) -> str:
    """Download the archive unless it is there; what went wrong, as one line."""
    archive = folder / Path(URL).name
    if not archive.is_file() and not answers(URL):
        return f"{URL} does not answer or has no such file"
    return download(URL, MD5, archive)
