"""Sentiment of film reviews, from the CSV file that a user supplies."""

from __future__ import annotations

import csv
import os
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.words import encode, vocabulary
from grokscope.validation import require_float, require_int

FILE = "IMDB Dataset.csv"
WHERE = "kaggle.com/datasets/lakshmi25npathi/imdb-dataset-of-50k-movie-reviews"
LABELS = {"positive": 1.0, "negative": 0.0}


class IMDBDataModule(TensorDataModule):
    """Reviews: ``inputs`` (n, length) int64, left-padded with 0; ``targets`` (n, 1), 0.0 or 1.0.

    The file is not downloaded (Kaggle asks for an account). It has the header
    ``review,sentiment`` and 50,000 rows, ``positive`` or ``negative``.

    Args:
        data_dir: Folder of ``IMDB Dataset.csv``.
        size: The first reviews of the file that are used.
        test_fraction: Of them, the same share of both sentiments as far as it goes.
        vocabulary_size: Words known: the most frequent of the training reviews.
        length: Words of a review.
        batch_size: Reviews an optimizer step sees; ``None`` is the full training set.
        seed: Seeds split and order of mini-batches.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a wrong file.
        FileNotFoundError: In ``setup``, where the file is missing.

    Source:
        Maas et al. 2011; set-up of Liu et al. 2023 (Omnigrok), arXiv:2210.01117, and
        KindXiaoming/Omnigrok:imdb/grokking. Its split is scikit-learn's
        ``train_test_split(stratify=...)``; ours draws other reviews.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        size: int = 1000,
        test_fraction: float = 0.25,
        vocabulary_size: int = 1000,
        length: int = 500,
        batch_size: int | None = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if not isinstance(data_dir, (str, os.PathLike)):
            raise ValueError(f"data_dir must be the path of a folder, got {data_dir!r}.")
        self.path = Path(data_dir).expanduser() / FILE
        self.size = require_int("size", size, minimum=4)
        self.test_fraction = require_float("test_fraction", test_fraction, above=0.0, below=1.0)
        self.vocabulary_size = require_int("vocabulary_size", vocabulary_size)
        self.length = require_int("length", length, maximum=10_000)

    def make_splits(self) -> tuple[Split, Split]:
        """Read the file, split, and number the words of the training reviews."""
        reviews, labels = read_reviews(self.path, self.size)
        train, test = stratified(labels, self.test_fraction, self.seed)
        numbers = vocabulary((reviews[i] for i in train), self.vocabulary_size)

        def split(rows: NDArray[np.int64]) -> Split:
            encoded = encode([reviews[i] for i in rows], numbers, self.length)
            return Split(torch.from_numpy(encoded), _column(labels[rows]))

        return split(train), split(test)


def read_reviews(path: Path, size: int) -> tuple[list[str], NDArray[np.float64]]:
    """The first ``size`` reviews and their labels (size,), 1.0 for positive.

    Raises:
        FileNotFoundError: If there is no such file; says where it is from.
        ValueError: For a file of another form or with fewer reviews.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"data_dir must hold the file {path.name!r}, got {path.parent}: "
            f"download it from {WHERE}."
        )
    with path.open(encoding="utf-8", newline="") as file:
        try:
            table = csv.DictReader(file)
            if (table.fieldnames or [])[:2] != ["review", "sentiment"]:
                raise ValueError(f"{path} must have the columns review,sentiment.")
            rows = list(islice(table, size))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no CSV file of UTF-8: {error}.") from None
    if len(rows) < size:
        raise ValueError(f"size must be at most {len(rows)}, the reviews in {path}, got {size}.")
    wrong = [i for i, row in enumerate(rows) if row["sentiment"] not in LABELS]
    if wrong:
        found = rows[wrong[0]]["sentiment"]
        raise ValueError(f"{path} must say positive or negative, got {found!r} in {wrong[0] + 1}.")
    labels = np.array([LABELS[str(row["sentiment"])] for row in rows])
    return [str(row["review"]) for row in rows], labels


def stratified(
    labels: NDArray[np.float64], test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for training and for the test, shuffled; of each label the same share tests.

    Raises:
        ValueError: If a split would be empty.
    """
    rng = np.random.default_rng(seed)
    train: list[int] = []
    test: list[int] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label)).tolist()
        n_test = round(test_fraction * len(rows))
        test, train = test + rows[:n_test], train + rows[n_test:]
    if not train or not test:
        raise ValueError(
            f"test_fraction must leave reviews for both splits, got {test_fraction} of "
            f"{len(labels)} reviews."
        )
    return rng.permutation(train), rng.permutation(test)


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values).float()[:, None]
