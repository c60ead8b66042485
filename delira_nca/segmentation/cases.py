"""Cases of a segmentation: images and masks of a folder, in any of the layouts that the package reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from delira_nca.data_loading import SubsetDataset
from delira_nca.data_loading.readers import CaseDataset, DecathlonDataset, NNUNetDataset, PairedFolderDataset
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute

__all__ = ["each_case", "open_cases", "select"]

_MOST_SHOWN = 10


def open_cases(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str] | None = None,
    *,
    mask_suffix: str = "",
    channel_axis: int | None = None,
    binarise: float | None = None,
) -> CaseDataset:
    """Open the images and masks of a folder.

    Parameters
    ----------
    images : str or path
        Folder of the images, or folder with a ``dataset.json`` in the layout of nnU-Net (``imagesTr``, ``labelsTr``) or
        of the Medical Segmentation Decathlon.
    masks : str or path, optional
        Folder of the masks, with the names of the images. None for the layouts with a ``dataset.json``, and for images
        without masks.
    mask_suffix : str
        End of the stems of masks that is removed for matching, such as ``"_mask"``.
    channel_axis : int, optional
        Axis of the channels in ``.npy`` and ``.npz`` images.
    binarise : float, optional
        Threshold of masks in a folder: values above it are the foreground.

    Returns
    -------
    CaseDataset

    Raises
    ------
    MissingFileError, ConfigError
        If a folder does not exist or has no images, or an image has no mask or vice versa. The message names the files.
    """
    root = absolute(images)
    if root.is_file():
        raise ConfigError(_why_no_folder(root))
    description = root / "dataset.json"
    if description.is_file():
        if masks is not None:
            raise ConfigError(f"{os.fspath(root)!r} has a dataset.json, which names the masks: give no folder of masks")
        found = parse_json(description.read_bytes(), description)
        is_list = isinstance(found, Mapping) and isinstance(found.get("training"), list)
        return DecathlonDataset(root) if is_list else NNUNetDataset(root)
    if masks is None and (root / "imagesTr").is_dir():
        raise MissingFileError(f"{os.fspath(root)!r} has a folder imagesTr, but no dataset.json with its channels")
    return PairedFolderDataset(root, masks, label_suffix=mask_suffix, channel_axis=channel_axis, binarise=binarise)


def _why_no_folder(file: Path) -> str:
    """Return why a file cannot take the place of a folder of images."""
    why = f"{os.fspath(file)!r} is a file: give the folder of the images"
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as found:
            if "train_images" in found.files:
                why = (
                    f"{os.fspath(file)!r} is a file of MedMNIST, which has a class for each image and no masks: "
                    "'delira-nca init classification' writes a config that trains on it"
                )
    return why


def select(cases: CaseDataset, names: Sequence[str]) -> SubsetDataset:
    """Return the cases of the given names in their order.

    Raises
    ------
    ConfigError
        If there is no case of a name.
    """
    numbers = {name: number for number, name in enumerate(cases.names)}
    if missing := [name for name in names if name not in numbers]:
        raise ConfigError(f"there are no cases {missing[:_MOST_SHOWN]} among {len(numbers)}: the folder has changed")
    return cases.get_subset([numbers[name] for name in names])


def each_case(cases: CaseDataset, function: Any, *, show: Any = None) -> list[Any]:
    """Read all cases, and return the result of a function of each sample and its information.

    Cases are read by several threads, since decompression and decoding run in parallel.

    Parameters
    ----------
    cases : CaseDataset
        Cases to read.
    function : callable
        Function of the sample and the result of :meth:`CaseDataset.info`.
    show : callable, optional
        Function of the iterator of results and their number that shows the progress and returns the iterator.

    Raises
    ------
    ConfigError
        If cases cannot be read. The message names all of them with the reasons.
    """

    def read(number: int) -> Any:
        try:
            return function(cases.checked_sample(number), cases.info(number))
        except (DeliraNCAError, OSError, ValueError) as error:
            return error

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(read, range(len(cases)))
        found = list(results if show is None else show(results, len(cases)))
    mistakes = [str(result) for result in found if isinstance(result, Exception)]
    if mistakes:
        rest = f"\n... and {len(mistakes) - _MOST_SHOWN} more" if len(mistakes) > _MOST_SHOWN else ""
        raise ConfigError(
            f"{len(mistakes)} of {len(found)} cases cannot be used:\n- " + "\n- ".join(mistakes[:_MOST_SHOWN]) + rest
        )
    return found
