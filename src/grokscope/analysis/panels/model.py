"""What a run shows, as plain data: the page, figures for papers and notebooks draw the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROLES = ("train", "test", "other", "whole", "part")


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: What a legend says.
        epochs: (n,) ascending.
        values: (n,); NaN is a gap.
        role: How it is drawn: ``train``, ``test``, ``other`` (neutral), ``whole`` (thick) or
            ``part`` (one of several alike, such as a layer).
        theory: Whether it is a prediction, drawn dotted.
        low: (n,) lower end of a band around it; None is no band.
        high: (n,) its upper end.
    """

    name: str
    epochs: Array
    values: Array
    role: str = "other"
    theory: bool = False
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True)
class Lines:
    """Curves that share an axis.

    Attributes:
        name: What tells them from the panel's other choices.
        unit: What the vertical axis says: quantity and unit.
        series: The curves.
        log: Whether the vertical axis is logarithmic at first.
        time: What the horizontal axis says where it is not epochs.
        steps: Whether a value holds until the next one.
    """

    name: str
    unit: str
    series: tuple[Series, ...]
    log: bool = False
    time: str = ""
    steps: bool = False


@dataclass(frozen=True)
class Spectrum:
    """Numbers in an order, over epochs: eigenvalues by rank, norms by frequency.

    Attributes:
        name: What tells it from the panel's other choices, such as a layer.
        unit: What the numbers are.
        axis: What they are ordered by; counts from 1.
        epochs: (n,) ascending.
        values: (n, k); NaN where there are fewer.
        log: Whether numbers and order are on logarithmic scales.
    """

    name: str
    unit: str
    axis: str
    epochs: Array
    values: Array
    log: bool = True


@dataclass(frozen=True)
class Matrices:
    """A matrix over epochs, such as a confusion matrix.

    Attributes:
        name: What tells it from the panel's other choices.
        unit: What the entries are.
        rows: Names of the rows.
        columns: Names of the columns.
        epochs: (n,) ascending.
        values: (n, rows, columns).
        axes: What rows and columns are; empty where their names say it.
        log: Whether colours are on a logarithmic scale at first.
        labels: What the values 0, 1, 2, ... mean; empty where they are numbers.
    """

    name: str
    unit: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    epochs: Array
    values: Array
    axes: tuple[str, str] = ("", "")
    log: bool = False
    labels: tuple[str, ...] = ()


Choice = Lines | Spectrum | Matrices


@dataclass(frozen=True)
class Panel:
    """One picture, or several of the same kind to choose from.

    Attributes:
        key: Unique name, fit for a file: ``losses``, ``gop_batch``.
        section: Heading that it stands under.
        title: Its name for people.
        caption: What one sees, and where the definition is from.
        choices: All of one type; the first is shown.
    """

    key: str
    section: str
    title: str
    caption: str
    choices: tuple[Choice, ...]
