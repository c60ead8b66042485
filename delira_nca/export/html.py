"""A live page in one file."""

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
    "chart",
    "picture",
    "player",
    "dish",
    "controls",
    "weights",
    "app",
    "main",
)
"""Each imports only from those before it."""

_SCRIPTS_BESIDE = " 'self' file:"
"""What the policy of a page allows besides while it is trained: the script that holds newer weights."""

_IMPORT = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|class|function)\b)", re.MULTILINE)


def assemble(page: Mapping[str, Any]) -> str:
    """HTML of a page from its data, which hold at least a title.

    A page of a training that still runs may load scripts that lie beside it; any other may load nothing.
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
    """The modules as one, without the lines by which they import each other."""
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
) -> Path:
    """Write a model as a page that opens in any browser, without a network.

    The page runs the automaton in WebGL2, or in JavaScript where that is faster or WebGL2 is not there.

    Parameters
    ----------
    model : two-dimensional, of the package's own parts.
    path : of the file to write; its folder is made if need be.
    title : of the page.
    grid : (height, width) in cells; that of the target or the image by default, else 64 by 64.
    seed : (C, h, w) state to begin with; a smaller one is put into the middle, and where a person clicks. One living
        cell by default where pictures grow, nothing where the model looks at a picture.
    target : (c, h, w) picture that was to grow, so that the page can show how far it is from it; for several goals,
        one by the name of each.
    goals : for a model whose fixed channels say what to grow: name to the value of each fixed channel.
    image : (fixed channels, h, w) picture to begin with, as the model takes it.
    classes : names of the output channels, for a model in which every cell votes for one of them.
    task : ``"grow"``, ``"segment"`` or ``"classify"``; by default, a model with classes classifies, one with fixed
        channels and no goals segments, and any other grows.
    normalize : (mean, std) of each fixed channel: what a picture that is opened in the page, of values from 0 to 1,
        becomes is ``(value - mean) / std``.
    steps : horizon of the training, which the page marks; the upper end of ``model.training_timesteps`` by default.
    figures : name to value, shown below the picture.
    explanation : up to three lines on what is seen, instead of those of the task.
    weights : ``"float32"``, or ``"float16"`` for a page of half the size that is a little off.
    random_seed : of the fire masks.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ExportError
        If the model has a part that no engine of the page computes, weights that are not finite, or the file cannot be
        written. The former file is as it was then.
    ConfigError, ShapeError, UnknownNameError
        For options that do not fit the model or each other.

    Notes
    -----
    The page of Mordvintsev et al. (2020) was made by hand; this one comes out of any model.

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
    )
    return write_text(assemble(page), absolute(path))


def write_text(text: str, path: Path) -> Path:
    """Write a page, or a script beside it, whole or not at all.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    try:
        with replaced(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write the page {path}: {error.strerror or error}") from error
    return path
