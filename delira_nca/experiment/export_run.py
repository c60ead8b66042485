"""Export of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delira_nca.data_loading import AbstractDataset
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError
from delira_nca.experiment.plain_files import read_plain
from delira_nca.experiment.run import CONFIG, Run
from delira_nca.experiment.validation import build_part
from delira_nca.export.cases import PageCase, page_cases
from delira_nca.export.html import to_html
from delira_nca.export.live_page import stored_slider
from delira_nca.io import load_checkpoint, load_network
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.resume import newest_run_files

__all__ = ["export_html"]


def export_html(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    grid: tuple[int, int] | None = None,
    weights: str = "float32",
) -> Path:
    """Write the best network of a run as a live page, with the slider over the epochs if the run has one.

    The page of a run of :func:`delira_nca.segmentation.segment` opens on its held-out cases, which have to be readable.

    Parameters
    ----------
    source : str or path
        Folder of a run, or a checkpoint.
    out : str or path, optional
        File of the page; by default ``live.html`` in the folder of the run or of the checkpoint.
    title : str, optional
        Title of the page; the name of the run by default.
    grid : tuple, optional
        Size (height, width) in cells; that of the training by default.
    weights : str
        Data type of the weights, ``"float32"`` or ``"float16"``.

    Raises
    ------
    MissingFileError
        If there is no such run or checkpoint.
    CheckpointError, ExportError, ConfigError, UnknownNameError
        If the checkpoint is not readable, its model cannot be exported to a page, the folder contains several runs, or
        the file does not end in ``.html`` or ``.htm``.
    """
    given, source = source, absolute(source)
    checkpoints = [source] if source.is_file() else _checkpoints(source, given)
    checkpoint = checkpoints[0]
    folder = source.parent if source.is_file() else source
    options: dict[str, Any] = {}
    if (folder / "target.npy").is_file() and not source.is_file():
        options["target"] = torch.from_numpy(np.load(folder / "target.npy", allow_pickle=False))
    if (folder / "result.json").is_file() and not source.is_file():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        options["figures"] = result.get("outcome", result).get("figures")
    if not source.is_file():
        states = [load_checkpoint(path) for path in dict.fromkeys((checkpoint, checkpoints[-1]))]
        options["epochs"] = stored_slider(states[0], states[-1])
    name = source.stem if source.is_file() else source.resolve().name
    page = folder / "live.html" if out is None else absolute(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise UnknownNameError(f"a page is written as .html or .htm, not {page.name!r}")
    if not source.is_file():
        options["cases"] = _held_out_cases(folder)
    return to_html(load_network(checkpoint), page, title=title or name, grid=grid, weights=weights, **options)


def _held_out_cases(folder: Path) -> list[PageCase]:
    """Return cases of a run that segments; no cases of other runs."""
    values = read_plain(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    valid = (values.get("data") or {}).get("valid")
    if not isinstance(valid, dict) or "preprocessing" not in (valid.get("init_args") or {}):
        return []
    config = Run.open(folder).config
    with config.relative_paths():
        return page_cases(build_part(AbstractDataset, config.data["valid"]))


def _checkpoints(folder: Path, given: str | os.PathLike[str]) -> list[Path]:
    """Return the file with the best network, and the newest one."""
    if not folder.is_dir():
        raise MissingFileError(f"there is no run {given}")
    places = [place for place in (folder / "checkpoints", folder) if place.is_dir() and checkpoints_in(place)]
    if not places:
        places = [place for depth in ("*", "*/*") for place in folder.glob(f"{depth}/checkpoints")]
        places = [place for place in places if place.is_dir() and checkpoints_in(place)]
    if not places:
        raise MissingFileError(f"run {folder} contains no checkpoint")
    if len(places) > 1 and folder not in places:
        runs = ", ".join(sorted(str(place.parent) for place in places)[:5])
        raise ConfigError(f"{folder} contains several runs; export one of them: {runs}")
    found = sorted(newest_run_files(places[0]) or checkpoints_in(places[0]), key=lambda file: file.stat().st_mtime)
    best = [file for file in found if file.stem == "checkpoint_best"]
    return [(best or found)[-1], found[-1]]
