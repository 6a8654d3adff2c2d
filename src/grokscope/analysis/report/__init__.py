"""``report.html``: a run, or several, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grokscope.analysis.report.comparison import comparison_document
from grokscope.analysis.report.document import run_document
from grokscope.analysis.report.page import page_html
from grokscope.analysis.run import Run
from grokscope.store.replacing import remove_drafts, replace_text

NAME, COMPARISON = "report.html", "comparison.html"


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, into its folder unless ``path`` says where; never half of it.

    Raises:
        ValueError: If a file of the run cannot be read, naming it.
        OSError: If the page cannot be written.
    """
    return _write(page_html(run_document(run)), run.path / NAME if path is None else path)


def write_comparison(runs: Iterable[Run], path: Path) -> Path:
    """Write the page of several runs; never half of it.

    Raises:
        ValueError: For no run, or a file of one that cannot be read, naming it.
        OSError: If the page cannot be written.
    """
    return _write(page_html(comparison_document(runs)), path)


def _write(text: str, path: Path) -> Path:
    remove_drafts(path.parent, (path.suffix,))
    return replace_text(path, text)
