"""Small text files that may come from a stranger."""

from __future__ import annotations

from pathlib import Path

from grokscope.store.nofollow import open_regular

MOST_DIGITS = 32  # of a number; larger ones fit neither 64 bits nor a float's text


def read_text(path: Path, max_bytes: int) -> str:
    """A regular file's text; its memory is bounded whatever lies there.

    Raises:
        NotPlainFileError: If it is a link, or no regular file; it names the file.
        ValueError: If it is too large, or no UTF-8. The caller names the file.
        OSError: If it cannot be opened or read.
    """
    with open(open_regular(path), "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes.")
    return content.decode("utf-8")


def check_number(text: str) -> str:
    """Refuse a number with more digits than any of ours.

    Raises:
        ValueError: If it has more than ``MOST_DIGITS``.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits.")
    return text
