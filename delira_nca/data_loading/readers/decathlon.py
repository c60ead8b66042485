"""The layout of the Medical Segmentation Decathlon: a ``dataset.json`` that lists NIfTI files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delira_nca.data_loading.readers.cases import Case, CaseDataset, read_json, shown
from delira_nca.data_loading.readers.files import split_ending
from delira_nca.errors import ConfigError, MissingFileError, require_choice

__all__ = ["DecathlonDataset"]

_ENTRIES = {"train": "training", "test": "test"}


class DecathlonDataset(CaseDataset):
    """A task of the Medical Segmentation Decathlon. For what a sample is, see `CaseDataset`.

    The channels (modalities) of a volume are its fourth axis.

    Parameters
    ----------
    root : folder of the task, with ``dataset.json``.
    split : ``"train"``, or ``"test"``, which has no masks.
    resize : see `CaseDataset`.

    Attributes
    ----------
    channel_names : tuple of str
    class_names : dict of str to int

    Raises
    ------
    UnknownNameError
        If the split is none of the two.
    MissingFileError
        If ``dataset.json``, or a file that it lists, is not there; by name.
    ConfigError
        If ``dataset.json`` lacks an entry. Reading raises it where a mask has a value that is not listed.

    Notes
    -----
    Antonelli et al. (2022), The Medical Segmentation Decathlon. Nature Communications 13.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", *, resize: int | Sequence[int] | None = None
    ) -> None:
        require_choice("split", split, _ENTRIES)
        root = Path(root)
        described = read_json(root / "dataset.json")
        entries, names, classes = (described.get(key) for key in (_ENTRIES[split], "modality", "labels"))
        if not isinstance(entries, list) or not isinstance(names, Mapping) or not isinstance(classes, Mapping):
            raise ConfigError(
                f"{os.fspath(root / 'dataset.json')!r} must have {_ENTRIES[split]} (a list), modality and labels"
            )
        channel_names = tuple(str(names[number]) for number in sorted(names, key=int))
        self.class_names = {str(name): int(value) for value, name in classes.items()}
        cases = [_case(root, entry, has_mask=split == "train") for entry in entries]
        files = [path for case in cases for path in (*case.images, *([case.label] if case.label else []))]
        missing = [os.fspath(path.relative_to(root)) for path in files if not path.is_file()]
        if missing:
            raise MissingFileError(f"dataset.json lists files that are not in {os.fspath(root)!r}: {shown(missing)}")
        super().__init__(cases, resize=resize, channel_names=channel_names, classes=set(self.class_names.values()))


def _case(root: Path, entry: Any, has_mask: bool) -> Case:
    """Case of one entry of the list: a dict of image and label, or the image alone."""
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, Mapping) else (entry, None)
    if not isinstance(image, str) or (has_mask and not isinstance(label, str)):
        raise ConfigError(f"dataset.json: an entry must name image{' and label' if has_mask else ''}, not {entry!r}")
    path = root / image
    return Case(split_ending(path.name)[0], (path,), root / str(label) if has_mask else None)
