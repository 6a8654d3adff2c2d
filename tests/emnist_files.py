"""A tiny EMNIST and MNIST, written as the real files are, for tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from grokscope.data.emnist import N_CLASSES, NAMES


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def pictures(labels: np.ndarray) -> np.ndarray:
    """An upright picture a class: rows up to its number are bright at the left."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[: 1 + label % 28, : 5 + label // 28] = 200
    return images


def write(folder: Path, n_train: int = 188, n_test: int = 94, n_mnist: int = 40) -> list[str]:
    """Files in ``folder``; the settings that take them."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, n in ((0, n_train), (2, n_test)):
        labels = np.arange(n) % N_CLASSES
        write_idx(folder / f"{NAMES[i]}.gz", pictures(labels).swapaxes(1, 2))
        write_idx(folder / NAMES[i + 1], labels)
    digits = np.arange(n_mnist) % 10
    write_idx(folder / "t10k-images-idx3-ubyte", pictures(digits))
    write_idx(folder / "t10k-labels-idx1-ubyte", digits)
    return [
        *(f"data.data_dir={folder}", f"data.mnist_dir={folder}", f"data.n_train={n_train}"),
        *("data.n_test=null", "data.n_mnist=null", "data.batch_size=47", "data.download=false"),
    ]
