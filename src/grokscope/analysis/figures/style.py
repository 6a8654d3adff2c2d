"""How every figure looks: colours, sizes, text that is safe to draw, and the axis of epochs."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.run import Run, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

TRAIN, TEST, NEUTRAL = "#0072B2", "#D55E00", "#555555"  # Okabe-Ito: safe for colour-blind eyes
PARTS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # the palette's others that show on white
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)))
DOTS = (0, (1, 2))
MOMENTS = ((TRAIN, (0, (3, 3))), (TEST, (3, (3, 3))))  # both show where they are one epoch
MOST_NAMED = 12  # curves in a legend
LARGEST = 1e100  # of what an axis shows
LONGEST = 60  # characters of a text from outside
SINGLE, DOUBLE = 3.4, 7.0  # inches: one and two columns of a paper
EPOCHS_SHORT = "epoch (0 drawn at 0.5)"
EPOCHS = "epoch (passes over the training set; 0 drawn at 0.5)"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures are alike everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: text in a PDF stays text, and journals take it
}
PAPER: dict[Any, Any] = {
    **STYLE,
    "font.size": 7.5,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
}


def plain(text: str, most: int = LONGEST) -> str:
    """Text from outside as matplotlib draws it letter by letter, in one line.

    It takes it neither for mathematics nor for a label to leave out. Control characters, marks
    of writing direction and what the font lacks become U+FFFD. More than ``most`` characters end
    in an ellipsis.
    """
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    text = "".join(c if _has_glyph(c) else "\N{REPLACEMENT CHARACTER}" for c in printable(text))
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def wrapped(text: str, width: int = 26) -> str:
    """:func:`plain` text in lines of about so many characters."""
    lines = wrap(text[:LONGEST], width)
    kept = "\n".join(plain(line) for line in lines)
    return f"{kept}…" if len(text) > LONGEST else kept


def _has_glyph(character: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(STYLE["font.family"])).get_char_index(ord(character)) > 0


def run_title(run: Run) -> str:
    """A run's name and seed."""
    seed = run.info.get("seed")
    return plain(run.name if seed is None else f"{run.name}, seed {seed}")


def epoch_positions(epochs: ArrayLike) -> Array:
    """Where epochs stand on a log axis: 0 at 0.5."""
    return np.maximum(np.asarray(epochs, dtype=float), 0.5)


def drawable(values: ArrayLike) -> NDArray[np.bool_]:
    """Which values an axis can show: neither NaN nor so large that its ends overflow."""
    return np.asarray(np.abs(np.asarray(values, dtype=float)) < LARGEST)


def spread_rows(epochs: ArrayLike, most: int) -> NDArray[np.int64]:
    """Numbers of at most ``most`` rows, evenly over the log of epochs, with the first and last.

    Args:
        epochs: (n,) ascending.
        most: At least 2.

    Returns:
        Ascending. Where rows lie less densely than that, there are fewer.
    """
    logs = np.log(epoch_positions(epochs))
    if len(logs) <= most:
        return np.arange(len(logs))
    wanted = np.linspace(logs[0], logs[-1], most)
    right = np.searchsorted(logs, wanted).clip(1, len(logs) - 1)
    left_is_nearer = wanted - logs[right - 1] < logs[right] - wanted
    return np.unique(right - left_is_nearer)


def epoch_axis(axis: Axes, label: str = EPOCHS) -> None:
    """Make the horizontal axis one of epochs, logarithmic."""
    axis.set_xscale("log")
    axis.set_xlabel(label)


def draw_moments(
    axis: Axes, times: GrokkingTimes | None, legend: bool = False, on_image: bool = False
) -> None:
    """A dashed line at each of the two moments, named for the legend where wanted."""
    for name, epoch, (colour, dashes) in _moments(times):
        label = f"{name} {epoch:,}" if legend else None
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1}
        if on_image:  # the palette does not show on every colour of a heat map
            axis.axvline(max(epoch, 0.5), color="white", linewidth=2)
        axis.axvline(max(epoch, 0.5), label=label, **style)


def name_moments(axis: Axes, times: GrokkingTimes | None) -> None:
    """The two moments in words above a panel, one to the left of its line, one to the right."""
    sides = {"memorised": "right", "generalised": "left"}
    for name, epoch, (colour, _) in _moments(times):
        axis.annotate(
            f" {name} {epoch:,} ",
            (max(epoch, 0.5), 1.0),
            xycoords=("data", "axes fraction"),
            ha=sides[name],
            va="bottom",
            fontsize=9,
            color=colour,
        )


def _moments(times: GrokkingTimes | None) -> list[tuple[str, int, Any]]:
    """Name, epoch and look of those that came."""
    if times is None:
        return []
    both = (("memorised", times.memorised), ("generalised", times.generalised))
    pairs = zip(both, MOMENTS, strict=True)
    return [(name, epoch, look) for (name, epoch), look in pairs if epoch is not None]


def title(figure: Figure, text: str) -> None:
    """Words above everything, from the left, cut to the figure's width."""
    size = figure.get_figwidth() * 72 / 4.8  # a letter of 8 points is about 4.8 wide
    figure.suptitle(plain(text, int(size)), x=0.01, ha="left")


def legend_below(figure: Figure, axis: Axes) -> None:
    """The legend of an axis below the figure, where it hides no curve."""
    handles, labels = axis.get_legend_handles_labels()
    if not handles:
        return
    widest = max(map(len, labels)) * 3.9 + 34  # points
    columns = max(1, min(len(labels), int(figure.get_figwidth() * 72 / widest)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def say_empty(axis: Axes, words: str = "no finite values") -> None:
    """Say that there is nothing to show, instead of an empty frame."""
    axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes, color=NEUTRAL)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def color_bar(axes: Any, image: ScalarMappable, unit: str, where: str = "right") -> Colorbar:
    """What the colours of an image or a mesh say; beside one or several axes."""
    first = axes[0] if isinstance(axes, list) else axes
    bar: Colorbar = first.figure.colorbar(image, ax=axes, pad=0.02, location=where)
    bar.ax.grid(False)
    bar.outline.set_visible(False)
    bar.set_label(wrapped(unit))
    return bar
