"""The layout of the Medical Segmentation Decathlon: a ``dataset.json`` that lists NIfTI files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delira_nca.data_loading.readers.cases import Case, CaseDataset, shown
from delira_nca.data_loading.readers.description import DatasetDescription
from delira_nca.data_loading.readers.files import find_file, normal_name, split_ending
from delira_nca.errors import ConfigError, MissingFileError, require_choice
from delira_nca.io.paths import absolute

__all__ = ["DecathlonDataset"]

_ENTRIES = {"train": "training", "test": "test"}


class DecathlonDataset(CaseDataset):
    """Task of the Medical Segmentation Decathlon. Samples are described in `CaseDataset`.

    The channels (modalities) of a volume are its fourth axis.

    Parameters
    ----------
    root : str or path-like
        Folder of the task, with ``dataset.json``.
    split : str
        Part of the data: ``"train"``, or ``"test"``, which has no masks.
    resize, check_geometry
        See `CaseDataset`.

    Attributes
    ----------
    channel_names : tuple of str
    class_names : dict of str to int

    Raises
    ------
    MissingFileError
        If ``dataset.json``, or a file that it lists, does not exist.
    ConfigError
        If an entry of ``dataset.json`` is missing or invalid. Reading raises it if a mask has a value that is not
        listed.

    Notes
    -----
    Antonelli et al. (2022), The Medical Segmentation Decathlon. Nature Communications 13.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        resize: int | Sequence[int] | None = None,
        check_geometry: bool = True,
    ) -> None:
        require_choice("split", split, _ENTRIES)
        root = absolute(root)
        described = DatasetDescription(root / "dataset.json")
        entries = described.content.get(_ENTRIES[split])
        if not isinstance(entries, list):
            raise ConfigError(f"{os.fspath(described.path)!r} must have {_ENTRIES[split]} (a list)")
        channel_names = described.channel_names("modality", "channel_names")
        self.class_names = described.class_names()
        cases = [_case(root, entry, has_mask=split == "train") for entry in entries]
        missing = [os.path.relpath(path, root) for case in cases for path in case.files if not path.is_file()]
        if missing:
            raise MissingFileError(f"dataset.json lists files that are not in {os.fspath(root)!r}: {shown(missing)}")
        images = [case.images[0] for case in cases]
        if double := {os.path.relpath(path, root) for path in images if images.count(path) > 1}:
            raise ConfigError(f"{os.fspath(described.path)!r} lists images twice: {shown(sorted(double))}")
        super().__init__(
            cases,
            resize=resize,
            channel_names=channel_names,
            classes=described.classes(),
            check_geometry=check_geometry,
        )


def _case(root: Path, entry: Any, has_mask: bool) -> Case:
    """Make the case of one entry of the list: a dict of image and label, or only the image."""
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, Mapping) else (entry, None)
    if not isinstance(image, str) or (has_mask and not isinstance(label, str)):
        raise ConfigError(f"dataset.json: an entry must name image{' and label' if has_mask else ''}, not {entry!r}")
    path, mask = find_file(root / image), find_file(root / str(label)) if has_mask else None
    return Case(normal_name(split_ending(path.name)[0]), (path,), mask)
