"""Film reviews: words, vocabulary, padding on the left, the split, and wrong files."""

from __future__ import annotations

import re

import numpy as np
import pytest
import supplied
import torch

from grokscope.data import IMDBDataModule
from grokscope.data.imdb import read_reviews, stratified
from grokscope.data.words import STOP_WORDS, encode, vocabulary, words


def their_word(s):
    """``preprocess_string`` of the released code."""
    s = re.sub(r"[^\w\s]", "", s)
    s = re.sub(r"\s+", "", s)
    return re.sub(r"\d", "", s)


def test_words_are_those_of_the_released_code():
    text = "It's \"GREAT\", 10/10!<br /><br />Don't miss co-stars\u00a0x the_end 7"
    wanted = [w for w in (their_word(w) for w in text.lower().split()) if w]
    assert words(text) == wanted
    assert words(text)[:3] == ["its", "great", "br"]


def test_the_vocabulary_ranks_by_frequency_then_by_first_occurrence():
    texts = ["the zebra saw a cat", "cat zebra dog the the", "Emu, dog."]
    assert vocabulary(texts, 3) == {"zebra": 1, "cat": 2, "dog": 3}
    assert vocabulary(texts, 100) == {"zebra": 1, "cat": 2, "dog": 3, "saw": 4, "emu": 5}
    assert "the" in STOP_WORDS
    assert len(STOP_WORDS) == 179


def their_padding(sentences, seq_len):
    """``padding_`` of the released code."""
    features = np.zeros((len(sentences), seq_len), dtype=int)
    for ii, review in enumerate(sentences):
        if len(review) != 0:
            features[ii, -len(review) :] = np.array(review)[:seq_len]
    return features


def test_rows_are_padded_on_the_left_and_long_texts_keep_their_beginning():
    numbers = {"one": 1, "two": 2, "three": 3}
    texts = ["two unknown one", "", "one two three one two three", "three two one two"]
    rows = encode(texts, numbers, 4)
    assert rows.tolist() == [[0, 0, 2, 1], [0, 0, 0, 0], [1, 2, 3, 1], [3, 2, 1, 2]]
    known = [[numbers[w] for w in words(text) if w in numbers] for text in texts]
    np.testing.assert_array_equal(rows, their_padding(known, 4))


def test_the_file_gives_stratified_splits_that_depend_on_the_seed_alone(tmp_path):
    supplied.write_imdb(tmp_path, 40)

    def ready(seed):
        data = IMDBDataModule(tmp_path, 40, length=12, batch_size=10, seed=seed)
        data.setup()
        return data

    first, again, other = ready(0), ready(0), ready(1)
    assert first.train.inputs.shape == (30, 12)
    assert first.test.inputs.shape == (10, 12)
    assert first.train.targets.shape == (30, 1)
    assert first.train.targets.mean().item() == first.test.targets.mean().item() == 0.5
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.targets, again.test.targets)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert first.train.inputs.dtype == torch.int64


def test_quotes_commas_and_mark_up_survive(tmp_path):
    path = supplied.write_imdb(tmp_path, 6)
    reviews, labels = read_reviews(path, 6)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert all("<br /><br />" in review and '"' in review for review in reviews)


def test_the_split_covers_every_row_once():
    labels = np.array([0.0] * 7 + [1.0] * 13)
    train, test = stratified(labels, 0.25, 5)
    assert sorted([*train, *test]) == list(range(20))
    assert labels[test].sum() == 3


@pytest.mark.refusal
def test_a_missing_file_says_which_and_where_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"IMDB Dataset\.csv.*kaggle\.com"):
        IMDBDataModule(tmp_path).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("text,label\na,b\n", "must have the columns review,sentiment"),
        ("review,sentiment\ngood,positive\n", "size must be at most 1"),
        ("review,sentiment\n" + "good,5\n" * 4, "must say positive or negative, got '5' in 1"),
        ("review,sentiment\n" + "good\n" * 4, "must say positive or negative, got None"),
        (b"review,sentiment\n\xff\xfe\n", "is no CSV file of UTF-8"),
    ],
)
def test_wrong_files_are_refused(content, match, tmp_path):
    path = tmp_path / "IMDB Dataset.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=match):
        IMDBDataModule(tmp_path, size=4).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data_dir": 3}, "data_dir must be the path"),
        ({"size": 3}, "size must be an integer >= 4"),
        ({"test_fraction": 1.0}, "test_fraction must be a number"),
        ({"vocabulary_size": 0}, "vocabulary_size must be"),
        ({"length": 0}, "length must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        IMDBDataModule(**({"data_dir": "data"} | arguments))
