"""Training as a film: a spectrum, matrices, or Fourier norms, as GIF."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.figures.fourier import (
    Circles,
    FourierNorms,
    Update,
    start_circles,
    start_fourier,
)
from grokscope.analysis.figures.matrices import (
    draw_image,
    name_axes,
    symmetric_or_from_zero,
)
from grokscope.analysis.figures.spectrum import positive_limits
from grokscope.analysis.figures.style import (
    STYLE,
    TRAIN,
    color_bar,
    drawable,
    plain,
    spread_rows,
    wrapped,
)
from grokscope.analysis.panels.model import Matrices, Spectrum
from grokscope.store.replacing import replace_bytes
from grokscope.validation import require_int

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Array = NDArray[np.float64]

MOST_FRAMES = 120
MOST_BYTES = 3_000_000
COLOURS = 256  # as many as a GIF has
NEARLY_WHITE = 248
SHORT, LONG = 80, 2000  # milliseconds: a frame, and the last


Filmed = Spectrum | Matrices | FourierNorms | Circles


def animate(filmed: Filmed, path: str | Path, *, title: str = "", most: int = MOST_FRAMES) -> Path:
    """Write a GIF of training: one frame an epoch, evenly over the log of epochs.

    Axes and colours are the same in all frames. While the file is larger than 3 MB, every second
    frame is left out.

    Args:
        filmed: What to show.
        path: Of the file; replaced if it is there.
        title: Stands before the epoch.
        most: Most frames, at least 2.

    Raises:
        ImportError: If matplotlib or pillow is not installed.
        ValueError: If there is no epoch, or nothing finite (a logarithmic spectrum: positive);
            and for shapes or frequencies that do not fit.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    require_int("most", most, minimum=2)
    _require_content(filmed)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.2), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        update = _scene(filmed, figure)
        show = _titled(figure, update, plain(title or filmed.name, 40), filmed.epochs)
        frames = [_frame(canvas, show, row) for row in spread_rows(filmed.epochs, most)]
    return replace_bytes(Path(path), _gif(frames))


def _require_content(filmed: Filmed) -> None:
    """Refuse what leaves every frame empty."""
    values, kind = filmed.values, type(filmed).__name__
    if not len(filmed.epochs) or len(values) != len(filmed.epochs):
        raise ValueError(
            f"{kind} must have a row for each of at least one epoch, got {len(values)} rows and "
            f"{len(filmed.epochs)} epochs."
        )
    positive = isinstance(filmed, Spectrum) and filmed.log
    if not (drawable(values) & (values > 0 if positive else True)).any():
        word = "positive" if positive else "finite"
        raise ValueError(f"{kind} {plain(filmed.name)} must hold a {word} number, got none.")


def _scene(filmed: Filmed, figure: Figure) -> Update:
    """Draw what stays, and return what shows a row."""
    if isinstance(filmed, Spectrum):
        return _spectrum(filmed, figure)
    if isinstance(filmed, Matrices):
        return _matrices(filmed, figure)
    if isinstance(filmed, FourierNorms):
        return start_fourier(filmed, figure)
    return start_circles(filmed, figure)


def _titled(figure: Figure, update: Update, name: str, epochs: Array) -> Update:
    """Also say the epoch, from the left so that it does not jump."""
    words = figure.suptitle(f"{name}, epoch 0", x=0.02, ha="left")

    def show(row: int) -> None:
        update(row)
        words.set_text(f"{name}, epoch {epochs[row]:,.0f}")

    return show


def _spectrum(spectrum: Spectrum, figure: Figure) -> Update:
    """Numbers over their order at one epoch; the first epoch stays in grey."""
    axis = figure.subplots()
    order = np.arange(1, spectrum.values.shape[1] + 1)
    values = np.where(drawable(spectrum.values), spectrum.values, np.nan)
    limits = positive_limits(values) if spectrum.log else (np.nanmin(values), np.nanmax(values))
    assert limits is not None
    if spectrum.log:
        axis.set(xscale="log", yscale="log", ylim=(limits[0] / 2, limits[1] * 2))
        axis.xaxis.set_major_formatter("{x:g}")
        values = np.where(values > 0, values, np.nan)
    else:
        margin = 0.05 * (limits[1] - limits[0]) or 1.0
        axis.set_ylim(limits[0] - margin, limits[1] + margin)
    axis.set(xlabel=plain(spectrum.axis), ylabel=wrapped(spectrum.unit))
    axis.plot(order, values[0], color="#bbbbbb", label=f"epoch {spectrum.epochs[0]:,.0f}")
    (line,) = axis.plot(order, values[0], ".-", color=TRAIN, markersize=4, linewidth=1)
    axis.legend(loc="upper right")
    return lambda row: line.set_ydata(values[row])


def _matrices(matrices: Matrices, figure: Figure) -> Update:
    axis = figure.subplots()
    image = draw_image(axis, matrices.values[0], **symmetric_or_from_zero(matrices.values))
    name_axes(axis, matrices)
    color_bar(axis, image, matrices.unit)
    return lambda row: image.set_data(np.ma.masked_invalid(matrices.values[row]))


def _frame(canvas: Any, show: Update, row: int) -> Image:
    """One frame. The layout of the first is kept, so that nothing jumps."""
    from PIL import Image

    show(int(row))
    canvas.draw()
    canvas.figure.set_layout_engine("none")
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _gif(frames: list[Image]) -> bytes:
    """The film, of as many frames as fit; the last is always kept."""
    from PIL.Image import Dither

    palette = _palette(frames)
    frames = [frame.quantize(palette=palette, dither=Dither.NONE) for frame in frames]
    while True:
        times = [SHORT] * (len(frames) - 1) + [LONG]
        file = BytesIO()
        more: dict[str, Any] = {"append_images": frames[1:], "duration": times, "loop": 0}
        frames[0].save(file, "GIF", save_all=True, optimize=False, **more)
        if file.tell() <= MOST_BYTES or len(frames) < 3:
            return file.getvalue()
        frames = frames[-1::-2][::-1]


def _palette(frames: list[Image]) -> Image:
    """Colours of the first, the middle and the last frame, for all: so nothing flickers."""
    from PIL import Image

    some = [np.asarray(frames[i]) for i in sorted({0, len(frames) // 2, len(frames) - 1})]
    palette = Image.fromarray(np.concatenate(some)).quantize(COLOURS)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[(colours >= NEARLY_WHITE).all(1)] = 255  # pillow rounds down: white would be grey
    palette.putpalette(colours.ravel().tolist())
    return palette
