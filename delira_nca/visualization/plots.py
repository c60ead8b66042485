"""Curves, several curves in one picture, and points."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import is_number
from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError, UnknownNameError, did_you_mean
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_curves", "save_overlay", "save_scatter", "suffix_of"]


def suffix_of(path: Path, known: Sequence[str]) -> str:
    """Suffix of the path in lower case, which says the format.

    Raises
    ------
    UnknownNameError
        If it is none of the known ones, which are listed.

    Examples
    --------
    >>> suffix_of(Path("runs/dahlia/film.GIF"), [".gif", ".png"])
    '.gif'
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        raise UnknownNameError(f"cannot write '{path}': unknown suffix {suffix!r}. {did_you_mean(suffix, known)}")
    return suffix


FloatArray = npt.NDArray[np.float64]
COUNTERS = ("epoch", "step")
COLOURS = ("#2a6fbb", "#d1662a", "#2f8f5b", "#8a55b5", "#b8395a", "#7a6a1f", "#3a8f9e", "#5c5c5c")
INK, GREY, GRID = "#222222", "#666666", "#e6e6e6"
FONT = "DejaVu Sans"  # comes with matplotlib
TEXT: dict[str, Any] = {"fontsize": 9, "color": GREY, "family": FONT, "parse_math": False}
LEGEND: dict[str, Any] = {"frameon": False, "prop": {"family": FONT, "size": 8.5}, "labelcolor": INK}
FEW = 60  # largest number of points for which each is marked
# files that do not depend on the time of day
METADATA: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def _canvas(width: float, height: float, h_pad: float = 0.1) -> Figure:
    """White figure of a size in inches that needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'delira_nca[viz]'") from error
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=h_pad)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    suffix = suffix_of(path, list(METADATA))
    with replaced(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=METADATA[suffix])


def _label_panel(axes: Axes, xlabel: str, ylabel: str, title: str | None) -> None:
    """Label the only panel of a figure."""
    axes.set_xlabel(xlabel, **TEXT)
    axes.set_ylabel(ylabel, **TEXT)
    _clear(axes)
    if title:
        axes.set_title(title, loc="left", **{**TEXT, "fontsize": 12, "color": INK})


def _clear(axes: Axes) -> None:
    """Draw a grid behind the data, and remove what is not needed."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, labelcolor=INK, color="#b0b0b0", labelfontfamily=FONT)


def save_curves(
    history: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    keys: Sequence[str] | None = None,
    log10: bool | Sequence[str] = True,
    title: str | None = None,
) -> None:
    """Draw the history of a training with one panel per quantity; training is solid, validation dashed.

    Parameters
    ----------
    history : sequence of dict
        One dict per epoch, ``{"epoch": 1, "loss": 0.1, "val_loss": 0.2, ...}``. The horizontal axis is ``"epoch"``,
        else ``"step"``, else the index in the list from 1. ``"val_loss"`` shares panel and colour with ``"loss"``. A
        line skips epochs without its key or with None (not measured), and is interrupted by NaN and infinity
        (diverged).
    path : str or path-like
        Path that ends in ``.png``, ``.svg`` or ``.pdf``. The file appears when it is complete.
    keys : sequence of str or None
        Keys to draw, in this order; by default every key with numbers.
    log10 : bool or sequence of str
        Whether to draw the decimal logarithm, with a label at the axis. True does so for every quantity with positive
        numbers only; a list of names, such as ``["loss", "lr"]``, for these quantities.
    title : str or None
        Title of the figure.

    Raises
    ------
    ConfigError
        If there is nothing to draw, or a quantity named in ``log10`` is not positive.
    UnknownNameError
        If a key was never recorded (the message names the most similar one), or the suffix is unknown.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "curves.svg"
    >>> save_curves([{"epoch": 1, "loss": 0.5, "val_loss": 0.6}, {"epoch": 2, "loss": 0.1}], path)
    >>> path.exists()
    True
    """
    path = absolute(path)
    suffix_of(path, list(METADATA))
    panels = _panels(history, keys)
    _save(_draw(panels, _logarithmic(panels, log10), _counter(history), title), path)


def _counter(history: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of the horizontal axis, if every record has it."""
    return next((name for name in COUNTERS if all(is_number(record.get(name)) for record in history)), None)


def _panels(
    history: Sequence[Mapping[str, Any]], keys: Sequence[str] | None
) -> dict[str, dict[str, tuple[FloatArray, FloatArray]]]:
    """Return the measured (x, y) by quantity and key."""
    if not history:
        raise ConfigError("there are no curves of an empty history")
    counter = _counter(history)
    measured: dict[str, list[tuple[float, float]]] = {}
    for place, record in enumerate(history, 1):
        x = float(record[counter]) if counter else float(place)
        for key, value in record.items():
            if key not in COUNTERS and is_number(value):
                measured.setdefault(key, []).append((x, float(value)))
    for key in measured if keys is None else keys:
        if key not in measured:
            raise UnknownNameError(f"the history has no numbers named {key!r}. {did_you_mean(key, measured)}")
    panels: dict[str, dict[str, tuple[FloatArray, FloatArray]]] = {}
    for key in measured if keys is None else keys:
        points = np.array(sorted(measured[key], key=lambda point: point[0]))
        panels.setdefault(_quantity(key), {})[key] = (points[:, 0], points[:, 1])
    if not panels:
        raise ConfigError(f"there is nothing to draw: keys={keys!r}, and the history has {sorted(measured)}")
    return panels


def _quantity(key: str) -> str:
    """Return the quantity of a key, without the name of the data set.

    >>> _quantity("val_loss"), _quantity("train_loss"), _quantity("loss")
    ('loss', 'loss', 'loss')
    """
    return key.removeprefix("val_").removeprefix("train_") or key


def _logarithmic(
    panels: Mapping[str, Mapping[str, tuple[FloatArray, FloatArray]]], log10: bool | Sequence[str]
) -> set[str]:
    """Return the quantities of which the logarithm is drawn."""
    finite = {name: np.concatenate([y for _, y in lines.values()]) for name, lines in panels.items()}
    finite = {name: values[np.isfinite(values)] for name, values in finite.items()}
    positive = {name for name, values in finite.items() if values.size and (values > 0).all()}
    if isinstance(log10, bool):
        return positive if log10 else set()
    wanted = {log10} if isinstance(log10, str) else set(log10)
    for name in sorted(wanted - positive):
        if name not in finite:
            raise UnknownNameError(f"log10 of {name!r}, which is not drawn. {did_you_mean(name, finite)}")
        raise ConfigError(f"log10 of {name!r}, whose numbers are not all positive")
    return wanted


def _draw(
    panels: Mapping[str, Mapping[str, tuple[FloatArray, FloatArray]]],
    logarithmic: set[str],
    counter: str | None,
    title: str | None,
) -> Figure:
    """Draw the figure of all panels, in up to three columns."""
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width, height = (6.4, 3.8) if columns == 1 else (4.4 * columns, 2.8 * rows)
    figure = _canvas(width, height + (0.3 if title else 0.0), h_pad=0.08)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    limits = _limits([x for lines in panels.values() for x, _ in lines.values()])
    for place, (name, lines) in enumerate(panels.items()):
        axes = grid[place]
        _draw_panel(axes, name, lines, COLOURS[place % len(COLOURS)], is_log=name in logarithmic)
        axes.set_xlim(*limits)
        if place + columns >= len(panels):
            axes.set_xlabel(counter or "record", **TEXT)
    for axes in grid[len(panels) :]:
        axes.remove()
    if title:
        figure.suptitle(title, x=0.015, ha="left", fontsize=13, color=INK, family=FONT, parse_math=False)
    return figure


def _draw_panel(
    axes: Axes, name: str, lines: Mapping[str, tuple[FloatArray, FloatArray]], colour: str, *, is_log: bool
) -> None:
    from matplotlib.ticker import MaxNLocator

    for key, (x, y) in lines.items():
        y = np.where(np.isfinite(y), y, np.nan)
        if is_log:
            y = np.log10(y)
        is_val, marked = key.startswith("val_"), _marked(y)
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=(0, (4, 1.6)) if is_val else "-",
            linewidth=1.6,
            marker="o" if marked else "",
            markersize=3.2,
            markerfacecolor="white" if is_val else colour,
            markeredgewidth=1.0,
            markevery=marked or None,
            label="val" if is_val else "train",
            zorder=3 if is_val else 2,
        )
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=colour, family=FONT, parse_math=False)
    if len(lines) > 1 or next(iter(lines)).startswith("val_"):
        legend = axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
            borderaxespad=0.2,
            handlelength=2.2,
            columnspacing=1.2,
            **LEGEND,
        )
        legend.set_in_layout(False)
    axes.set_ylabel(f"log10({name})" if is_log else name, **TEXT)
    _clear(axes)
    axes.spines[["left", "bottom"]].set_color("#b0b0b0")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axes.margins(y=0.08)


def _limits(xs: Sequence[FloatArray]) -> tuple[float, float]:
    """Return the limits of the horizontal axis of all panels, with space for the markers at the borders."""
    first, last = min(float(x[0]) for x in xs), max(float(x[-1]) for x in xs)
    room = 0.02 * (last - first) or 0.5
    return first - room, last + room


def _marked(y: FloatArray) -> list[int]:
    """Return the points to mark: all of them if there are few, else those between two gaps, which have no line.

    >>> _marked(np.array([1.0, np.nan, 1.0] + [2.0] * 100 + [np.nan, 3.0]))
    [0, 104]
    """
    if len(y) <= FEW:
        return list(range(len(y)))
    is_gap = np.concatenate([[True], np.isnan(y), [True]])
    return [int(place) for place in np.flatnonzero(~is_gap[1:-1] & is_gap[:-2] & is_gap[2:])]


def save_overlay(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
) -> None:
    """Draw lines in one panel with a legend.

    Parameters
    ----------
    lines : dict
        (x, y) by name. The first line is drawn over the others. NaN interrupts a line.
    path : str or path-like
        Path that ends in ``.png``, ``.svg`` or ``.pdf``. The file appears when it is complete.
    xlabel, ylabel : str
        Labels of the axes. The vertical axis is logarithmic if all numbers are positive and span more than a decade.
    title : str or None
        Title of the figure.

    Raises
    ------
    ConfigError, UnknownNameError
        If there is nothing to draw, or the suffix is unknown.
    MissingDependencyError
        If matplotlib is not installed.
    """
    path = absolute(path)
    suffix_of(path, list(METADATA))
    points = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in lines.items() if len(x)}
    finite = np.concatenate([y[np.isfinite(y)] for _, y in points.values()]) if points else np.empty(0)
    if not finite.size:
        raise ConfigError(f"there is nothing to draw of {', '.join(lines) or 'no runs'}")
    figure = _canvas(7.2, 4.2)
    axes = figure.subplots()
    for place, (name, (x, y)) in reversed(list(enumerate(points.items()))):
        axes.plot(
            x,
            np.where(np.isfinite(y), y, np.nan),
            color=COLOURS[place % len(COLOURS)],
            linestyle=("-", "--", ":", "-.")[place // len(COLOURS) % 4],
            linewidth=2.0 if place == 0 else 1.3,
            marker="o" if len(x) <= 20 else "",
            markersize=3.0,
            label=name,
        )
    if finite.min() > 0 and finite.max() / finite.min() > 10:
        axes.set_yscale("log")
    _label_panel(axes, xlabel, ylabel, title)
    axes.locator_params("x", nbins=8, integer=True)
    entries = (each[::-1] for each in axes.get_legend_handles_labels())
    figure.legend(*entries, loc="outside right upper", **LEGEND)
    _save(figure, path)


MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def save_scatter(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
) -> None:
    """Draw points in one panel, with a colour and a marker per group, and a legend.

    Parameters
    ----------
    groups : dict
        (x, y) by name. The first group is drawn over the others. Points that are not finite are skipped.
    path : str or path-like
        Path that ends in ``.png``, ``.svg`` or ``.pdf``. The file appears when it is complete.
    xlabel, ylabel : str
        Labels of the axes.
    title : str or None
        Title of the figure.

    Raises
    ------
    ConfigError, UnknownNameError
        If there is nothing to draw, or the suffix is unknown.
    ShapeError
        If x and y of a group differ in length.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cases.svg"
    >>> save_scatter({"clean": ([0.1, 0.2], [0.9, 0.8]), "noise": ([0.7], [0.3])}, path, xlabel="NQM", ylabel="Dice")
    >>> path.exists()
    True
    """
    path = absolute(path)
    suffix_of(path, list(METADATA))
    points = {name: (np.asarray(x, float).ravel(), np.asarray(y, float).ravel()) for name, (x, y) in groups.items()}
    for name, (x, y) in points.items():
        if len(x) != len(y):
            raise ShapeError(f"group {name!r} has {len(x)} numbers along the x axis and {len(y)} along the y axis")
    if not any((np.isfinite(x) & np.isfinite(y)).any() for x, y in points.values()):
        raise ConfigError(f"there is nothing to draw of {', '.join(points) or 'no groups'}")
    figure = _canvas(6.6, 4.2)
    axes = figure.subplots()
    for place, (name, (x, y)) in enumerate(points.items()):
        axes.plot(
            x,
            np.where(np.isfinite(x), y, np.nan),
            linestyle="",
            marker=MARKERS[place % len(MARKERS)],
            color=COLOURS[place % len(COLOURS)],
            markersize=4.0,
            markeredgewidth=0.0,
            alpha=0.75,
            label=name,
            zorder=3 + len(points) - place,
        )
    _label_panel(axes, xlabel, ylabel, title)
    figure.legend(loc="outside right upper", **LEGEND)
    _save(figure, path)
