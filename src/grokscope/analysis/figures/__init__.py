"""Figures of runs and panels by matplotlib: PNG, PDF for papers, and GIF."""

from grokscope.analysis.figures.animation import animate
from grokscope.analysis.figures.fourier import Circles, FourierNorms, fourier_norms
from grokscope.analysis.figures.heat_maps import draw_sorted_inputs, draw_sorted_weights
from grokscope.analysis.figures.lines import draw_curves, draw_lines
from grokscope.analysis.figures.matrices import draw_matrix
from grokscope.analysis.figures.save import draw_panel, save_figures, save_panels, write_figure
from grokscope.analysis.figures.spectrum import draw_gop, draw_spectrum
from grokscope.analysis.figures.style import NEUTRAL, PAPER, STYLE, TEST, TRAIN

__all__ = [
    "NEUTRAL",
    "PAPER",
    "STYLE",
    "TEST",
    "TRAIN",
    "Circles",
    "FourierNorms",
    "animate",
    "draw_curves",
    "draw_gop",
    "draw_lines",
    "draw_matrix",
    "draw_panel",
    "draw_sorted_inputs",
    "draw_sorted_weights",
    "draw_spectrum",
    "fourier_norms",
    "save_figures",
    "save_panels",
    "write_figure",
]
