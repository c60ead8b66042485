"""One number of several runs in one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from delira_nca.errors import ConfigError, MissingDependencyError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.visualization._files import suffix_of
from delira_nca.visualization.curves import COLOURS, FONT, GREY, GRID, INK, METADATA

__all__ = ["save_overlay"]


def save_overlay(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
) -> None:
    """Draw lines in one panel, with their names beside it.

    Parameters
    ----------
    lines : name to (x, y); the first is drawn over the others. NaN breaks a line.
    path : ends in ``.png``, ``.svg`` or ``.pdf``. The file appears when it is complete.
    xlabel, ylabel : of the axes. Where all numbers are positive and spread over more than a decade, the vertical one is
        logarithmic.
    title : above the figure.

    Raises
    ------
    ConfigError, UnknownNameError
        If there is nothing to draw, or the suffix is unknown.
    MissingDependencyError
        Without matplotlib.
    """
    path = absolute(path)
    suffix = suffix_of(path, list(METADATA))
    points = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in lines.items() if len(x)}
    finite = np.concatenate([y[np.isfinite(y)] for _, y in points.values()]) if points else np.empty(0)
    if not finite.size:
        raise ConfigError(f"there is nothing to draw of {', '.join(lines) or 'no runs'}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'delira_nca[viz]'") from error
    figure = Figure(
        figsize=(7.2, 4.2), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1), facecolor="white"
    )
    FigureCanvasAgg(figure)
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
    axes.set_xlabel(xlabel, fontsize=9, color=GREY, family=FONT, parse_math=False)
    axes.set_ylabel(ylabel, fontsize=9, color=GREY, family=FONT, parse_math=False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.tick_params(labelsize=8.5, labelcolor=INK, color="#b0b0b0", labelfontfamily=FONT)
    figure.legend(
        *(entries[::-1] for entries in axes.get_legend_handles_labels()),
        loc="outside right upper",
        frameon=False,
        prop={"family": FONT, "size": 8.5},
        labelcolor=INK,
    )
    if title:
        axes.set_title(title, loc="left", fontsize=12, color=INK, family=FONT, parse_math=False)
    with replaced(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=METADATA[suffix])
