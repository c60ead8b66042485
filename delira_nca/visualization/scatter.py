"""Points of several groups in one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.visualization._files import suffix_of
from delira_nca.visualization.curves import COLOURS, FONT, GREY, GRID, INK, METADATA

__all__ = ["save_scatter"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def save_scatter(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
) -> None:
    """Draw points in one panel, each group with a colour and a marker of its own, and its name beside the panel.

    Parameters
    ----------
    groups : name to (x, y); the first is drawn over the others. Points that are not finite are left out.
    path : ends in ``.png``, ``.svg`` or ``.pdf``. The file appears when it is complete.
    xlabel, ylabel : of the axes.
    title : above the figure.

    Raises
    ------
    ConfigError, UnknownNameError
        If there is nothing to draw, or the suffix is unknown.
    ShapeError
        If a group has not one y for each x.
    MissingDependencyError
        Without matplotlib.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cases.svg"
    >>> save_scatter({"clean": ([0.1, 0.2], [0.9, 0.8]), "noise": ([0.7], [0.3])}, path, xlabel="NQM", ylabel="Dice")
    >>> path.exists()
    True
    """
    path = absolute(path)
    suffix = suffix_of(path, list(METADATA))
    points = {name: (np.asarray(x, float).ravel(), np.asarray(y, float).ravel()) for name, (x, y) in groups.items()}
    for name, (x, y) in points.items():
        if len(x) != len(y):
            raise ShapeError(f"group {name!r} has {len(x)} numbers along the x axis and {len(y)} along the y axis")
    if not any((np.isfinite(x) & np.isfinite(y)).any() for x, y in points.values()):
        raise ConfigError(f"there is nothing to draw of {', '.join(points) or 'no groups'}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'delira_nca[viz]'") from error
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(6.6, 4.2), dpi=150, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
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
    axes.set_xlabel(xlabel, fontsize=9, color=GREY, family=FONT, parse_math=False)
    axes.set_ylabel(ylabel, fontsize=9, color=GREY, family=FONT, parse_math=False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, labelcolor=INK, color="#b0b0b0", labelfontfamily=FONT)
    figure.legend(loc="outside right upper", frameon=False, prop={"family": FONT, "size": 8.5}, labelcolor=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=12, color=INK, family=FONT, parse_math=False)
    with replaced(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=METADATA[suffix])
