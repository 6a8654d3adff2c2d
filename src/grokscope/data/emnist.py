"""EMNIST balanced, letters and digits, with MNIST beside it as another distribution."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.download import answers, download, find
from grokscope.data.idx import read_labelled_images
from grokscope.data.mnist import MNISTDataModule
from grokscope.store.replacing import replacing
from grokscope.validation import require_bool, require_choice, require_int

ARCHIVE = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"
"""560 MB, of which four files are kept."""

ARCHIVE_MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"
"""As torchvision lists it."""

N_CLASSES = 47
NAMES = tuple(
    f"emnist-balanced-{split}-{what}"
    for split in ("train", "test")
    for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
_MNIST_IMAGES = 10_000


class EMNISTDataModule(TensorDataModule):
    """Letters and digits: ``inputs`` (n, 784) float32 in [0, 1], ``targets`` (n,) int64 below 47.

    Classes 0 to 9 are the digits. The files hold each image transposed; here they stand upright,
    as
    MNIST's do. They may be plain or ``.gz``, in ``data_dir``, or where torchvision puts them, in
    ``data_dir/EMNIST/raw``. Missing ones are taken from NIST's archive.

    With ``mnist_dir`` the split ``mnist`` of :attr:`extra` holds MNIST's 10,000 test images. Both
    data sets come from NIST's forms, so some of these digits may be among EMNIST's: it is another
    preprocessing and class balance, not another source of handwriting.

    Args:
        data_dir: The folder.
        n_train: Training images.
        n_test: Test images; ``None`` takes all there are.
        batch_size: Images an optimizer step sees; ``None`` is the full training set.
        subset: Which images: a ``"random"`` choice that depends on ``seed`` alone, or the
            ``"first"``.
        mnist_dir: Folder of MNIST's test files; ``None`` leaves them out.
        n_mnist: The first so many of them; ``None`` takes all.
        seed: Seeds the random choice and the order of the mini-batches.
        download: Whether missing files may be fetched.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a wrong file.
        FileNotFoundError: In ``setup``, where files are missing and cannot be had.

    Source:
        Cohen et al. 2017, arXiv:1702.05373.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        n_train: int = 1000,
        n_test: int | None = None,
        batch_size: int | None = 200,
        subset: str = "random",
        mnist_dir: str | os.PathLike[str] | None = None,
        n_mnist: int | None = None,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if not isinstance(data_dir, (str, os.PathLike)):
            raise ValueError(f"data_dir must be the path of a folder, got {data_dir!r}.")
        self.data_dir = Path(data_dir).expanduser()
        self.n_train = require_int("n_train", n_train)
        self.n_test = None if n_test is None else require_int("n_test", n_test)
        self.subset = require_choice("subset", subset, ("first", "random"))
        self.download = require_bool("download", download)
        if n_mnist is not None:
            require_int("n_mnist", n_mnist, maximum=_MNIST_IMAGES)
        self.n_mnist = n_mnist
        self._mnist = mnist_dir and MNISTDataModule(
            mnist_dir, n_train=1, train_images="t10k", download=download
        )

    def prepare_data(self) -> None:
        """Fetch missing files, in one process a node."""
        self._paths()
        if self._mnist:
            self._mnist.prepare_data()

    def make_splits(self) -> tuple[Split, Split]:
        """Read the files, fetching missing ones first, and take the subsets."""
        paths = self._paths()
        train, test = (
            read_labelled_images(*pair, n_classes=N_CLASSES) for pair in (paths[:2], paths[2:])
        )
        if self._mnist:
            parts = self._mnist.make_splits()
            images, labels = (
                torch.cat([getattr(part, name) for part in parts])
                for name in ("inputs", "targets")
            )
            self.extra["mnist"] = Split(images, labels)[: self.n_mnist]
        rng = np.random.default_rng(self.seed)
        return (
            self._subset("n_train", *train, self.n_train, rng),
            self._subset("n_test", *test, self.n_test, rng),
        )

    def _subset(
        self, name: str, images: NDArray, labels: NDArray, n: int | None, rng: np.random.Generator
    ) -> Split:
        if n is not None and n > len(labels):
            raise ValueError(
                f"{name} must be at most {len(labels)}, as many as there are, got {n}."
            )
        rows = rng.permutation(len(labels)) if self.subset == "random" else np.arange(len(labels))
        upright = images[rows[:n]].swapaxes(1, 2).reshape(-1, 784)
        inputs = torch.from_numpy(np.ascontiguousarray(upright)).to(torch.float32).div_(255)
        return Split(inputs, torch.from_numpy(labels[rows[:n]]).to(torch.int64))

    def _paths(self) -> list[Path]:
        """The four files, training pair first."""
        reason = "download=False"
        if self.download and None in _found(self.data_dir).values():
            reason = _fetch(self.data_dir)
        found = _found(self.data_dir)
        if missing := [name for name, path in found.items() if path is None]:
            which = "all" if len(missing) == len(NAMES) else ", ".join(missing)
            raise FileNotFoundError(
                f"EMNIST needs {', '.join(NAMES)} (plain or .gz) in {self.data_dir} or its "
                f"EMNIST/raw; {which} missing ({reason})."
            )
        return [path for path in found.values() if path is not None]


def _found(folder: Path) -> dict[str, Path | None]:
    return {name: find(folder, "EMNIST/raw", name) for name in NAMES}


def _fetch(folder: Path) -> str:
    """Take the four files out of NIST's archive; why not, as one line."""
    path = folder / "emnist-gzip.zip"
    if not path.is_file() and not answers(ARCHIVE):
        return f"{ARCHIVE} does not answer or has no such file"
    if reason := download(ARCHIVE, ARCHIVE_MD5, path):
        return reason
    with zipfile.ZipFile(path) as archive:
        for name in NAMES:
            target = folder / f"{name}.gz"
            with archive.open(f"gzip/{name}.gz") as source, replacing(target) as draft:
                draft.write(source.read())
    path.unlink()
    return ""
