"""Reviews as padded numbers of frequent words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# NLTK's English stop words, as the released code of Omnigrok lists them.
_STOP_WORDS = (
    "a about above after again against ain all am an and any are aren aren't as at be because "
    "been before being below between both but by can couldn couldn't d did didn didn't do "
    "does doesn doesn't doing don don't down during each few for from further had hadn hadn't "
    "has hasn hasn't have haven haven't having he her here hers herself him himself his how i "
    "if in into is isn isn't it it's its itself just ll m ma me mightn mightn't more most "
    "mustn mustn't my myself needn needn't no nor not now o of off on once only or other our "
    "ours ourselves out over own re s same shan shan't she she's should should've shouldn "
    "shouldn't so some such t than that that'll the their theirs them themselves then there "
    "these they this those through to too under until up ve very was wasn wasn't we were "
    "weren weren't what when where which while who whom why will with won won't wouldn "
    "wouldn't y you you'd you'll you're you've your yours yourself yourselves "
)
STOP_WORDS = frozenset(_STOP_WORDS.split())

PADDING = 0


def words(text: str) -> list[str]:
    """Lower-case words of letters (and ``_``), split at white space; empty ones left out.

    Everything else is taken out of a word, so "don't" becomes "dont", which is no stop word; the
    released code does so too. Mark-up such as ``<br`` stays as "br".
    """
    stripped = (re.sub(r"[^\w\s]|\d", "", word) for word in text.lower().split())
    return [word for word in stripped if word]


def vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """The most frequent words and their numbers, 1 for the most frequent.

    Stop words are left out. Equally frequent words come in the order of their first occurrence.
    """
    counts = Counter(word for text in texts for word in words(text) if word not in STOP_WORDS)
    ranked = sorted(counts, key=lambda word: counts[word], reverse=True)
    return {word: number for number, word in enumerate(ranked[:size], start=1)}


def encode(texts: Sequence[str], numbers: Mapping[str, int], length: int) -> NDArray[np.int64]:
    """Numbers of the known words of each text, padded on the left with 0.

    Args:
        texts: n texts.
        numbers: From :func:`vocabulary`; other words are left out.
        length: Of a row. A longer text keeps its first words.

    Returns:
        (n, length).
    """
    rows = np.full((len(texts), length), PADDING, dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        known = [numbers[word] for word in words(text) if word in numbers][:length]
        if known:
            row[-len(known) :] = known
    return rows
