"""MNIST as tensors, read from IDX files in a folder and downloaded there where missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.download import answers, download, find
from grokscope.data.idx import read_labelled_images
from grokscope.validation import require_choice, require_int

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
"""Tried in this order; each must hold the files of :data:`MD5` with ``.gz`` appended."""

MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""Checksums of the gzip files, as torchvision lists them; the t10k ones checked by us."""

_SIZES = {"train": 60_000, "t10k": 10_000}


class MNISTDataModule(TensorDataModule):
    """Handwritten digits: ``inputs`` (n, 784) float32 in [0, 1], ``targets`` (n,) int64.

    The files may be plain or ``.gz``, in ``data_dir`` or where torchvision puts them, in
    ``data_dir/MNIST/raw``. Missing ones are downloaded into ``data_dir``.

    Args:
        data_dir: The folder.
        n_train: Training images; 1,000 in Liu et al. 2022.
        n_test: Test images; ``None`` takes all there are.
        batch_size: Images an optimizer step sees; ``None`` is the full training set.
        subset: Which images: the ``"first"`` ones (Liu et al.'s code), a ``"random"`` choice
            that depends on ``seed`` alone (their paper), or ``"replacement"``: training images
            drawn with replacement, so that a few are there twice (code of Humayun et al. 2024),
            tested on the first ones that were not drawn.
        train_images: Where training images come from: ``"train"``, the 60,000, tested on the
            10,000; or ``"t10k"``, the 10,000 alone, tested on those not trained on.
        seed: Seeds the random choice and the order of the mini-batches.
        download: Whether missing files may be fetched.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a wrong file.
        FileNotFoundError: In ``setup``, where files are missing and cannot be had.

    Source:
        LeCun, Cortes, Burges, the MNIST database; set-up of Liu et al. 2022, arXiv:2210.01117.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        n_train: int = 1000,
        n_test: int | None = None,
        batch_size: int | None = 200,
        subset: str = "first",
        train_images: str = "train",
        seed: int = 0,
        download: bool = True,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if not isinstance(data_dir, (str, os.PathLike)):
            raise ValueError(f"data_dir must be the path of a folder, got {data_dir!r}.")
        self.data_dir = Path(data_dir).expanduser()
        self.subset = require_choice("subset", subset, ("first", "random", "replacement"))
        self.train_images = require_choice("train_images", train_images, _SIZES)
        self.n_train = require_int("n_train", n_train)
        self.n_test = None if n_test is None else require_int("n_test", n_test)
        self.download = bool(download)
        self._choose(_SIZES[train_images], _SIZES["t10k"])

    def prepare_data(self) -> None:
        """Fetch missing files, in one process a node."""
        self._paths()

    def make_splits(self) -> tuple[Split, Split]:
        """Read the files, fetching missing ones first, and take the subsets."""
        paths = self._paths()
        test_images, test_labels = read_labelled_images(*paths[-2:])
        same = self.train_images == "t10k"
        images, labels = (test_images, test_labels) if same else read_labelled_images(*paths[:2])
        train_rows, test_rows = self._choose(len(labels), len(test_labels))
        return (
            _to_split(images[train_rows], labels[train_rows]),
            _to_split(test_images[test_rows], test_labels[test_rows]),
        )

    def _choose(self, n_images: int, n_test_images: int) -> tuple[NDArray, NDArray]:
        """Rows of the training and of the test file; disjoint where these are the same file."""
        same = self.train_images == "t10k"
        if self.n_train > n_images - same:
            kept = " and at least one is kept for testing" if same else ""
            raise ValueError(
                f"n_train must be at most {n_images - same}, got {self.n_train}: "
                f"{self.train_images}-images holds {n_images} images{kept}."
            )
        n_left = n_test_images - self.n_train * same
        if self.n_test is not None and self.n_test > n_left:
            rest = f" without the {self.n_train} trained on" if same else ""
            raise ValueError(
                f"n_test must be at most {n_left}, got {self.n_test}: "
                f"t10k-images holds {n_test_images} images{rest}."
            )
        rows, test_rows = np.arange(n_images), np.arange(n_test_images)
        if self.subset == "random":
            rng = np.random.default_rng(self.seed)
            rows, test_rows = rng.permutation(rows), rng.permutation(test_rows)
        if self.subset == "replacement":
            rows = np.random.default_rng(self.seed).integers(n_images, size=self.n_train)
            test_rows = np.setdiff1d(test_rows, rows) if same else test_rows
        elif same:
            test_rows = rows[self.n_train :]
        return rows[: self.n_train], test_rows[: self.n_test]

    def _paths(self) -> list[Path]:
        """The files needed, images before labels and the test pair last."""
        names = [name for name in MD5 if self.train_images == "train" or name.startswith("t10k")]
        reason = "download=False"
        if self.download:
            reason = _fetch([n for n in names if not _find(self.data_dir, n)], self.data_dir)
        found = {name: _find(self.data_dir, name) for name in names}
        if missing := [name for name, path in found.items() if path is None]:
            which = "all" if len(missing) == len(names) else ", ".join(missing)
            raise FileNotFoundError(
                f"MNIST needs {', '.join(names)} (plain or .gz) in {self.data_dir} or its "
                f"MNIST/raw; {which} missing ({reason})."
            )
        return [path for path in found.values() if path is not None]


def _find(folder: Path, name: str) -> Path | None:
    return find(folder, "MNIST/raw", name)


def _to_split(images: NDArray, labels: NDArray) -> Split:
    inputs = torch.from_numpy(images).flatten(1).to(torch.float32).div_(255)
    return Split(inputs, torch.from_numpy(labels).to(torch.int64))


def _fetch(names: list[str], folder: Path) -> str:
    """Download what the mirrors give, each in turn; what went wrong at each, as one line."""
    missing, reasons = list(names), []
    for mirror in MIRRORS:
        if missing and not answers(f"{mirror}{missing[0]}.gz"):
            reasons.append(f"{mirror} does not answer or has no such file")
            continue
        for name in tuple(missing):
            if reason := download(f"{mirror}{name}.gz", MD5[name], folder / f"{name}.gz"):
                reasons.append(reason)
            else:
                missing.remove(name)
    return "; ".join(reasons)
