"""Export of a model as a self-contained HTML page."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

from delira_nca.errors import ExportError
from delira_nca.export.cases import PageCase
from delira_nca.export.page import describe_page
from delira_nca.io import replaced
from delira_nca.io.paths import absolute
from delira_nca.models import BasicNCAModel

__all__ = ["MODULES", "assemble", "script", "to_html"]

MODULES = (
    "random",
    "tensors",
    "cell",
    "javascript_engine",
    "webgl_program",
    "webgl_engine",
    "engines",
    "world",
    "colours",
    "cases",
    "chart",
    "picture",
    "player",
    "dish",
    "controls",
    "weights",
    "app",
    "main",
)
"""JavaScript modules, each of which imports only from earlier ones."""

_SCRIPTS_BESIDE = " 'self' file:"
"""Additional script sources in the content security policy during training, for the script with newer weights."""

_IMPORT = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|class|function)\b)", re.MULTILINE)


def assemble(page: Mapping[str, Any]) -> str:
    """Return the HTML of a page from its data, which have at least a title.

    During training, the page may load scripts from its own folder; afterwards it may not load anything.
    """
    data = json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    filled = {
        "title": html.escape(page["title"]),
        "scripts": _SCRIPTS_BESIDE if page.get("training") else "",
        "style": _read("page.css"),
        "update": _read("update.glsl"),
        "life": _read("life.glsl"),
        "data": data,
        "script": script(MODULES),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _read("page.html"))


def script(modules: tuple[str, ...]) -> str:
    """Concatenate modules without their import lines and ``export`` keywords."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(f"{module}.js"))) for module in modules)


def _read(name: str) -> str:
    return resources.files("delira_nca.export").joinpath("live").joinpath(name).read_text(encoding="utf-8")


def to_html(
    model: BasicNCAModel,
    path: str | os.PathLike[str],
    *,
    title: str = "Neural cellular automaton",
    grid: Sequence[int] | None = None,
    seed: Tensor | None = None,
    target: Tensor | Mapping[str, Tensor] | None = None,
    goals: Mapping[str, Sequence[float]] | None = None,
    image: Tensor | None = None,
    classes: Sequence[str] | None = None,
    task: str | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    steps: int | None = None,
    figures: Mapping[str, object] | None = None,
    explanation: Sequence[str] | None = None,
    weights: str = "float32",
    random_seed: int = 0,
    cases: Sequence[PageCase] = (),
    epochs: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a model as a page that opens in any browser, without a network connection.

    The page runs the automaton in WebGL2, or in JavaScript if that is faster or WebGL2 is not available.

    Parameters
    ----------
    model : BasicNCAModel
        Two-dimensional model without user-defined parts.
    path : str or path-like
        File to write. Its folder is created if it does not exist.
    title : str
        Title of the page.
    grid : (int, int), optional
        Height and width in cells; those of the target or the image by default, or else 64 by 64.
    seed : Tensor, optional
        Initial state of shape (C, h, w). A state smaller than the grid is placed at the centre, and at each click. The
        default is one living cell if the task is ``"grow"``, and an empty state otherwise.
    target : Tensor or mapping of str to Tensor, optional
        Target picture of shape (c, h, w), from which the page shows the error; with several goals, one for each name.
    goals : mapping of str to sequence of float, optional
        Values of the fixed channels for each goal, for a model in which they select what grows.
    image : Tensor, optional
        Initial picture of shape (fixed channels, h, w), preprocessed as input of the model.
    classes : sequence of str, optional
        Names of the output channels, for a model in which each cell votes for a class.
    task : {"grow", "segment", "classify"}, optional
        Task of the model. The default is ``"classify"`` with ``classes``, ``"segment"`` with fixed channels and no
        goals, and ``"grow"`` otherwise.
    normalize : (sequence of float, sequence of float), optional
        Mean and standard deviation of each fixed channel. Values from 0 to 1 of a picture that is opened in the page
        become ``(value - mean) / std``.
    steps : int, optional
        Horizon of the training, marked in the page; the upper end of ``model.training_timesteps`` by default, and of
        ``model.inference_timesteps`` with cases.
    figures : mapping of str to object, optional
        Names and values to show below the picture.
    explanation : sequence of str, optional
        One to three lines that replace the explanation of the task.
    weights : {"float32", "float16"}
        Type of the stored weights; ``"float16"`` halves the size of the page and rounds the weights.
    random_seed : int
        Seed of the fire masks.
    cases : sequence of PageCase
        Cases that the page segments, for the task ``"segment"``. It opens on the first one, stops at the horizon, and
        shows the Dice score against the reference. See :func:`delira_nca.export.cases.page_cases`.
    epochs : sequence of mapping
        Weights of several epochs for a slider; see `delira_nca.export.live_page.stored_slider`.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    ExportError
        If the engines of the page do not support a part of the model, if weights are not finite, or if the file cannot
        be written. An existing file is unchanged then.
    ConfigError, ShapeError, UnknownNameError
        If options do not fit the model or each other.

    Notes
    -----
    The page of Mordvintsev et al. (2020) was written by hand for their models; this function supports other models.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> model = BasicNCAModel(**presets.growing())
    >>> path = to_html(model, getfixture("tmp_path") / "live.html", title="a seed", grid=(32, 32))
    >>> path.stat().st_size < 1_000_000
    True
    """
    page = describe_page(
        model,
        title=title,
        grid=grid,
        seed=seed,
        target=target,
        goals=goals,
        image=image,
        classes=classes,
        task=task,
        normalize=normalize,
        steps=steps,
        figures=figures,
        explanation=explanation,
        weights=weights,
        random_seed=random_seed,
        cases=cases,
    )
    return write_text(assemble({**page, "epochs": list(epochs)}), absolute(path))


def write_text(text: str, path: Path) -> Path:
    """Write a page or its script atomically.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    try:
        with replaced(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write the page {path}: {error.strerror or error}") from error
    return path
