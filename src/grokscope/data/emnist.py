"""EMNIST balanced, letters and digits, with MNIST beside it as another distribution."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.idx import read_idx
from grokscope.data.mnist import MNISTDataModule
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
_log = logging.getLogger(__name__)


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
        train, test = (_read_pair(*pair) for pair in (paths[:2], paths[2:]))
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
        if self.download and any(_find(self.data_dir, name) is None for name in NAMES):
            reason = _fetch(self.data_dir)
        else:
            reason = "download=False"
        found = {name: _find(self.data_dir, name) for name in NAMES}
        if missing := [name for name, path in found.items() if path is None]:
            which = "all" if len(missing) == len(NAMES) else ", ".join(missing)
            raise FileNotFoundError(
                f"EMNIST needs {', '.join(NAMES)} (plain or .gz) in {self.data_dir} or its "
                f"EMNIST/raw; {which} missing ({reason})."
            )
        return [path for path in found.values() if path is not None]


def _find(folder: Path, name: str) -> Path | None:
    places = (folder, folder / "EMNIST" / "raw")
    paths = (place / file for place in places for file in (name, f"{name}.gz"))
    return next((path for path in paths if path.is_file()), None)


def _read_pair(image_path: Path, label_path: Path) -> tuple[NDArray, NDArray]:
    """Images (n, 28, 28), transposed as they lie there, and labels (n,), both uint8, checked."""
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{image_path} must hold 28 x 28 images of bytes, "
            f"got {images.dtype} of shape {images.shape}."
        )
    right = labels.dtype == np.uint8 and labels.shape == images.shape[:1]
    if not right or labels.max() >= N_CLASSES:
        raise ValueError(
            f"{label_path} must hold {len(images)} classes below {N_CLASSES} as bytes, one an "
            f"image of {image_path.name}, got {labels.dtype} of shape {labels.shape}."
        )
    return images, labels


def _fetch(folder: Path) -> str:
    """Take the four files out of NIST's archive; why not, as one line."""
    import pooch
    from requests.exceptions import RequestException

    _log.info("Downloading %s to %s", ARCHIVE, folder)
    try:
        downloader = pooch.HTTPDownloader(timeout=(3.0, 60.0), chunk_size=2**16)
        name, known = "emnist-gzip.zip", f"md5:{ARCHIVE_MD5}"
        got = pooch.retrieve(ARCHIVE, known, fname=name, path=folder, downloader=downloader)
    except (RequestException, OSError) as error:
        return f"{ARCHIVE} cannot be had: {type(error).__name__}"
    except ValueError:
        return f"{ARCHIVE} came with a wrong checksum"
    with zipfile.ZipFile(got) as archive:
        for name in NAMES:
            _extract(archive, f"gzip/{name}.gz", folder / f"{name}.gz")
    Path(got).unlink()
    return ""


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """The file appears under its name only when complete."""
    draft = target.with_name(f".{target.name}.part")
    with archive.open(member) as source, draft.open("wb") as out:
        shutil.copyfileobj(source, out)
    os.replace(draft, target)
