"""``report.html``: a run, or several, as one page that needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from grokscope.analysis.report.document import run_document
from grokscope.analysis.report.page import page_html
from grokscope.analysis.run import Run

NAME = "report.html"


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, into its folder unless ``path`` says where; never half of it.

    Raises:
        ValueError: If a file of the run cannot be read, naming it.
        OSError: If the page cannot be written.
    """
    path = run.path / NAME if path is None else path
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(page_html(run_document(run)), encoding="utf-8")
    os.replace(draft, path)
    return path
