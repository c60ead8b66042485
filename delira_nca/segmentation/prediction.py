"""Prediction of the files of a folder: masks in the format and on the grid of the images, and a table of the cases."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.readers import Case, CaseDataset
from delira_nca.data_loading.readers.files import ENDINGS, NIFTI, PICTURES, split_ending
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError
from delira_nca.io.files import make_folder, replaced
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute
from delira_nca.segmentation.orientation import oriented
from delira_nca.segmentation.segmenter import Segmentation, Segmenter, alarm_of, folds_in

__all__ = ["PredictedCase", "predict_folder"]


_TABLE = "cases.csv"


@dataclass(frozen=True)
class PredictedCase:
    """Prediction of one file.

    Attributes
    ----------
    name : str
        Name of the case.
    mask : Path or None
        File of the mask; None if the image could not be predicted.
    sizes : dict of int to float
        Size of each class: in cubic millimetres if the file has a spacing, otherwise in cells.
    doubt : float
        Doubt of the network about the case.
    alarm : bool
        Whether the doubt is above the threshold of the run.
    error : str or None
        Reason why the image could not be predicted.
    """

    name: str
    mask: Path | None
    sizes: dict[int, float]
    doubt: float
    alarm: bool
    error: str | None = None


def predict_folder(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    probabilities: bool = False,
    doubt: bool = False,
    checkpoint: str = "best",
    tuned: bool = False,
    num_runs: int = 5,
    steps: int | None = None,
    threshold: float | None = None,
    min_size: int | None = None,
    channel_axis: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[PredictedCase]:
    """Predict all images of a folder with a trained run.

    Parameters
    ----------
    run : str or path
        Folder of a run of :func:`~delira_nca.segmentation.segment`. The networks of folds are averaged.
    images : str or path
        Folder of images, or one image. If the run was trained on a folder of nnU-Net, the files of a case end with
        ``_0000``, ``_0001``, ...
    out : str or path
        Folder of the masks, which is created. A mask has the name of its image, without the number of the channel, and
        its format: NIfTI with its affine matrix and header; ``.png`` instead of JPEG; ``.npy`` for arrays.
    probabilities : bool
        Whether to also write the probabilities of all classes, ``<name>_probabilities.npz``.
    doubt : bool
        Whether to also write the doubt of every cell, ``<name>_doubt``.
    checkpoint : str
        Weights: ``"best"``, ``"latest"`` or the name of a checkpoint.
    tuned : bool
        Whether to use the best steps, threshold and smallest component of the report.
    num_runs, steps, threshold, min_size, seed
        See :class:`~delira_nca.segmentation.Segmenter`.
    channel_axis : int, optional
        Axis of the channels in ``.npy`` and ``.npz`` images; that of the training by default.
    progress : bool
        Whether to show the progress on standard error.

    Returns
    -------
    list of PredictedCase
        One for each image. Images that cannot be read or do not fit have an ``error``; the others are predicted.
        ``cases.csv`` in ``out`` contains the same.

    Raises
    ------
    MissingFileError, ConfigError
        If there is no run or no image, or ``out`` is the folder of the images, or has files that are not of a
        prediction.
    """
    chosen = {"steps": steps, "threshold": threshold, "min_size": min_size}
    options = {name: value for name, value in chosen.items() if value is not None}
    segmenter = Segmenter.open(run, checkpoint, tuned=tuned, num_runs=num_runs, seed=seed, **options)
    source = segmenter.source
    channel_axis = source.get("channel_axis") if channel_axis is None else channel_axis
    numbered = _has_numbered_files(absolute(run))
    found = _find(absolute(images), numbered, source.get("mask_suffix") or "")
    folder = absolute(out)
    _require_free(folder, found[0].images[0].parent)
    make_folder(folder)
    alarm = alarm_of(run)
    rows = []
    for case in _shown(found, progress):
        try:
            rows.append(_predict(segmenter, case, folder, alarm, channel_axis, numbered, probabilities, doubt))
        except (DeliraNCAError, OSError, ValueError) as error:
            rows.append(PredictedCase(case.name, None, {}, float("nan"), False, str(error)))
    _write_table(rows, segmenter, folder)
    return rows


def _shown(cases: Sequence[Case], progress: bool) -> Any:
    if not progress:
        return cases
    from tqdm import tqdm

    return tqdm(cases, "predicting", leave=False)


def _has_numbered_files(run: Path) -> bool:
    """Whether the files of a case end with the number of the channel, as in nnU-Net."""
    file = [*folds_in(run), run][0] / "fingerprint.json"
    found = parse_json(file.read_bytes(), file) if file.is_file() else {}
    return isinstance(found, Mapping) and bool(found.get("numbered_files"))


def _require_free(folder: Path, images: Path) -> None:
    """Raise a ConfigError if masks would be written beside images, or over files that no prediction has written."""
    if folder.resolve() == images.resolve():
        raise ConfigError("masks have the names of their images: give them another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _TABLE).is_file():
        raise ConfigError(f"{os.fspath(folder)!r} contains files that are not of a prediction: give another folder")


def _find(images: Path, numbered: bool, mask_suffix: str) -> list[Case]:
    """Return the cases of a folder or a file. If files are numbered, those that differ in the number are one case."""
    folder = images.parent if images.is_file() else images
    if not folder.is_dir() or not images.exists():
        raise MissingFileError(f"there is neither a folder nor a file {os.fspath(images)!r}")
    files = sorted(path for path in folder.iterdir() if split_ending(path.name)[1] in ENDINGS and path.name[0] != ".")
    if images.is_file():
        wanted = _case_name(images, numbered)
        files = [path for path in files if _case_name(path, numbered) == wanted] if numbered else [images]
    elif mask_suffix:
        files = [path for path in files if not split_ending(path.name)[0].endswith(mask_suffix)]
    if not files:
        raise MissingFileError(f"there are no images in {os.fspath(images)!r} with the ending {', '.join(ENDINGS)}")
    grouped: dict[str, list[Path]] = {}
    for path in files:
        grouped.setdefault(_case_name(path, numbered), []).append(path)
    return [Case(name, tuple(paths)) for name, paths in grouped.items()]


def _case_name(path: Path, numbered: bool) -> str:
    """Return the name of the case of a file: without the number of the channel, if files are numbered."""
    stem = split_ending(path.name)[0]
    return stem[:-5] if numbered and len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdecimal() else stem


def _require_channels(case: Case, numbered: bool) -> None:
    """Check that the files of a case are numbered from 0 on, or that there is one."""
    names = [path.name for path in case.images]
    if not numbered and len(names) > 1:
        raise ConfigError(f"there are several images of one name: {', '.join(names)}")
    numbers = [split_ending(name)[0][-4:] for name in names]
    if numbered and numbers != [f"{number:04}" for number in range(len(names))]:
        raise ConfigError(
            f"the files of a case end with _0000, _0001, ..., one for each channel, not {', '.join(names)}"
        )


def _predict(
    segmenter: Segmenter,
    case: Case,
    folder: Path,
    alarm: float | None,
    channel_axis: int | None,
    numbered: bool,
    probabilities: bool,
    doubt: bool,
) -> PredictedCase:
    _require_channels(case, numbered)
    dataset = CaseDataset([case], channel_axis=channel_axis)
    image = oriented(dataset.checked_sample(0), dataset.info(0))
    found: Segmentation = segmenter(image.data, image.spacing)
    path = _write(image.back(found.mask), case, folder, case.name)
    if doubt:
        _write(image.back(found.doubt_map), case, folder, f"{case.name}_doubt")
    if probabilities:
        with replaced(folder / f"{case.name}_probabilities.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, probabilities=image.back(found.probabilities))
    spacing = image.spacing
    cell = 1.0 if spacing is None else float(np.prod(spacing))
    values = [1] if segmenter.preprocessing.instances else list(segmenter.preprocessing.values[1:])
    sizes = {int(value): cell * int((found.mask == value).sum()) for value in values}
    return PredictedCase(case.name, path, sizes, found.doubt, alarm is not None and not found.doubt <= alarm)


def _write(values: npt.NDArray[Any], case: Case, folder: Path, name: str) -> Path:
    """Write a mask, or the doubt of every cell, in the format of the image."""
    first = case.images[0]
    ending = split_ending(first.name)[1]
    is_mask = values.dtype.kind in "iu"
    if is_mask:
        values = values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
    if ending in NIFTI:
        import nibabel

        image: Any = nibabel.load(first)
        header = image.header.copy()
        header.set_data_dtype(values.dtype)
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["cal_min"], header["cal_max"] = 0, 0  # the window of the image would hide the mask
        path = folder / (name + ending)
        with replaced(path) as temporary:
            whole = temporary.with_name(temporary.name + ending)
            nibabel.save(type(image)(values, image.affine, header), whole)
            whole.replace(temporary)
        return path
    if ending in (".tif", ".tiff") and values.ndim == 3:
        path = folder / (name + ending)
        with replaced(path) as temporary:
            _write_stack(values if is_mask else values.astype(np.float32), temporary)
        return path
    if ending in PICTURES and values.ndim == 2:
        from PIL import Image

        path = folder / (name + (ending if ending in (".tif", ".tiff") else ".png"))
        if not is_mask:
            values = np.round(255 * np.clip(2 * values, 0, 1)).astype(np.uint8)  # a deviation is at most 0.5
        with replaced(path) as temporary:
            Image.fromarray(values).save(temporary, "TIFF" if path.suffix in (".tif", ".tiff") else "PNG")
        return path
    path = folder / (name + ".npy")
    with replaced(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
    return path


def _write_stack(values: npt.NDArray[Any], path: Path) -> None:
    """Write a (pages, rows, columns) array as a TIFF file of several pages."""
    from PIL import Image

    pages = [Image.fromarray(page) for page in values]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])


def _write_table(rows: Sequence[PredictedCase], segmenter: Segmenter, folder: Path) -> None:
    values = sorted({value for row in rows for value in row.sizes})
    with replaced(folder / _TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", *(f"size_{value}" for value in values), "doubt", "alarm", "error"])
        for row in rows:
            sizes: Mapping[int, float] = row.sizes
            cells = [f"{sizes[value]:.6g}" if value in sizes else "" for value in values]
            writer.writerow([row.name, *cells, f"{row.doubt:.6g}", int(row.alarm), row.error or ""])
