"""Panels and runs into files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grokscope.analysis.figures.lines import draw_curves, draw_lines
from grokscope.analysis.figures.matrices import draw_matrix
from grokscope.analysis.figures.spectrum import draw_gop, draw_spectrum
from grokscope.analysis.figures.style import DOUBLE, PAPER, SINGLE, STYLE, title
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.panels.model import Choice, Lines, Panel, Spectrum
from grokscope.analysis.run import Run
from grokscope.store.replacing import remove_drafts, replace_bytes
from grokscope.validation import require_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png")
SUFFIXES = (".pdf", ".png")
TALL = 8.0  # inches, room for any legend
WIDTHS = {"single": SINGLE, "double": DOUBLE}
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "png": {}}
"""Metadata: the same figure gives the same bytes."""


def save_figures(run: Run) -> list[Path]:
    """Draw ``curves.png`` and, where the GOP was measured, ``gop.png`` into the run's folder.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    saved = []
    remove_drafts(run.path, SUFFIXES)
    with mpl.rc_context(STYLE):
        for name, draw in (("curves", draw_curves), ("gop", draw_gop)):
            figure = Figure(figsize=(8, 6.4), layout="constrained")
            if draw(run, figure):
                saved.append(write_figure(figure, run.path / f"{name}.png", dpi=130))
    return saved


def draw_panel(
    panel: Panel, choice: Choice, figure: Figure, times: GrokkingTimes | None = None
) -> None:
    """Draw one choice of a panel: curves, a spectrum, or the last of its matrices.

    Args:
        panel: Gives the title.
        choice: One of its choices, named in the title if there are several.
        figure: Empty, best with ``layout="constrained"`` and within ``rc_context(PAPER)``.
        times: The two moments, drawn as dashed lines.

    Raises:
        ValueError: If the choice is not the panel's.
    """
    if not any(choice is own for own in panel.choices):
        names = ", ".join(own.name for own in panel.choices)
        raise ValueError(
            f"choice must be one of those of panel {panel.key} ({names}), got {choice.name!r}."
        )
    several = len(panel.choices) > 1 and not panel.title.endswith(choice.name)
    title(figure, f"{panel.title}: {choice.name}" if several else panel.title)
    if isinstance(choice, Lines):
        draw_lines(choice, figure, times)
    elif isinstance(choice, Spectrum):
        draw_spectrum(choice, figure, times)
    else:
        draw_matrix(choice, figure)


def save_panels(
    panels: Iterable[Panel],
    folder: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    times: GrokkingTimes | None = None,
    width: str = "double",
) -> list[Path]:
    """Draw the first choice of each panel into ``<key>.pdf`` and ``<key>.png``.

    Files are the same, byte by byte, for the same panels and version of matplotlib; text of a
    PDF is TrueType.

    Args:
        panels: Such as those of a run.
        folder: Made if it is missing.
        formats: ``pdf``, ``png``.
        times: The two moments.
        width: ``single`` (3.4 inches) or ``double`` (7 inches) column.

    Returns:
        Paths, panel by panel.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: For another format or width, or for keys that repeat or are no plain file
            names; then nothing is written.
    """
    panels = list(panels)
    require_choice("width", width, WIDTHS)
    for each in formats:
        require_choice("format", each, FORMATS)
    _require_names([panel.key for panel in panels])
    Path(folder).mkdir(parents=True, exist_ok=True)
    remove_drafts(Path(folder), SUFFIXES)
    return [
        path
        for panel in panels
        for path in _save(panel, Path(folder), formats, times, WIDTHS[width])
    ]


def write_figure(figure: Figure, path: Path, **settings: Any) -> Path:
    """Put a figure in the place of a file, in the format that its name ends with.

    Raises:
        NotPlainFileError: If there is something else than a file, a link for example.
        OSError: If it cannot be written; an older file stays.
    """
    content = BytesIO()
    figure.savefig(content, format=path.suffix[1:], **settings)
    return replace_bytes(path, content.getvalue())


def _require_names(keys: list[str]) -> None:
    for key in keys:
        if not PLAIN_NAME.fullmatch(key):
            raise ValueError(
                f"keys of panels must be plain file names (letters, digits, _ and -, at most "
                f"100), got {key[:120]!r}."
            )
    if len({key.lower() for key in keys}) < len(keys):  # some file systems ignore case
        raise ValueError(f"keys of panels must differ, also without case, got {', '.join(keys)}.")


def _save(
    panel: Panel, folder: Path, formats: Sequence[str], times: GrokkingTimes | None, width: float
) -> list[Path]:
    """The first choice in each format; none for a panel without choices."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if not panel.choices:
        return []
    choice, saved = panel.choices[0], []
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(width, TALL), layout="constrained")
        draw_panel(panel, choice, figure, times)
        _fit(figure, *_size(choice, width))
        for each in formats:
            path = folder / f"{panel.key}.{each}"
            saved.append(write_figure(figure, path, dpi=300, metadata=UNDATED[each]))
    return saved


def _fit(figure: Figure, width: float, height: float) -> None:
    """Give the size, and for the legend more, which would else be taken from the axes."""
    figure.set_figwidth(width)
    if figure.legends:
        figure.draw_without_rendering()
        height += sum(each.get_window_extent().height for each in figure.legends) / figure.dpi
    figure.set_figheight(height)


def _size(choice: Choice, width: float) -> tuple[float, float]:
    """Inches, but for the legend. Matrices are about square, so not over both columns."""
    if isinstance(choice, Lines):
        return width, 2.3 if width == SINGLE else 2.8
    if isinstance(choice, Spectrum):
        return width, 4.2 if width == SINGLE else 2.5
    return min(width, 4.2), 0.85 * min(width, 4.2)
