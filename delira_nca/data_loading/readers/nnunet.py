"""The raw layout of nnU-Net: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from delira_nca.data_loading.readers.cases import Case, CaseDataset, read_json, shown
from delira_nca.data_loading.readers.files import PICTURES
from delira_nca.errors import ConfigError, MissingFileError, require_choice

__all__ = ["NNUNetDataset"]

_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


class NNUNetDataset(CaseDataset):
    """A dataset in the raw layout of nnU-Net, of version 1 or 2. For what a sample is, see `CaseDataset`.

    Each channel is a file of its own, in the order of their numbers; a colour picture may be one file.

    Parameters
    ----------
    root : folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
    split : ``"train"``, or ``"test"``, which has masks only where there is a folder ``labelsTs``.
    resize : see `CaseDataset`.

    Attributes
    ----------
    channel_names : tuple of str
    class_names : dict of str to int, or to a list of int where nnU-Net's classes are regions

    Raises
    ------
    UnknownNameError
        If the split is none of the two.
    MissingFileError
        If ``dataset.json`` or a folder is not there.
    ConfigError
        If ``dataset.json`` lacks an entry, or channels or masks are missing; by name. Reading raises it where a
        mask has a value that ``dataset.json`` does not list.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", *, resize: int | Sequence[int] | None = None
    ) -> None:
        require_choice("split", split, _FOLDERS)
        root = Path(root)
        described = read_json(root / "dataset.json")
        names = described.get("channel_names", described.get("modality"))
        if not isinstance(names, Mapping) or not isinstance(described.get("labels"), Mapping):
            raise ConfigError(f"{os.fspath(root / 'dataset.json')!r} must have channel_names (or modality) and labels")
        channel_names = tuple(str(names[number]) for number in sorted(names, key=int))
        self.class_names = _class_names(described["labels"])
        ending = str(described.get("file_ending", ".nii.gz"))
        images, labels = (root / folder for folder in _FOLDERS[split])
        files = _channel_files(images, ending)
        _require_channels(files, len(channel_names), ending, images)
        has_masks = split == "train" or labels.is_dir()
        if has_masks:
            missing = [case for case in files if not (labels / (case + ending)).is_file()]
            if missing:
                raise ConfigError(f"cases without a mask in {os.fspath(labels)!r}: {shown(sorted(missing))}")
        super().__init__(
            (
                Case(case, tuple(channels.values()), labels / (case + ending) if has_masks else None)
                for case, channels in sorted(files.items())
            ),
            resize=resize,
            channel_names=channel_names,
            classes=_values(self.class_names.values()),
        )


def _class_names(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Name of a class to its value; version 1 has it the other way round."""
    if all(isinstance(value, str) for value in labels.values()):
        return {name: int(value) for value, name in labels.items()}
    return dict(labels)


def _values(classes: Iterable[Any]) -> set[int]:
    return {int(value) for entry in classes for value in (entry if isinstance(entry, (list, tuple)) else [entry])}


def _channel_files(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    """Case to number of a channel to file, the numbers in order."""
    if not folder.is_dir():
        raise MissingFileError(f"{os.fspath(folder)!r} is no folder")
    pattern = re.compile(rf"(?P<case>[^.].*)_(?P<channel>\d{{4}}){re.escape(ending)}")
    files: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match:
            files.setdefault(match["case"], {})[int(match["channel"])] = path
    if not files:
        raise ConfigError(f"there are no files like CASE_0000{ending} in {os.fspath(folder)!r}")
    return files


def _require_channels(files: Mapping[str, Mapping[int, Path]], count: int, ending: str, folder: Path) -> None:
    for case, channels in sorted(files.items()):
        is_colour_picture = ending.lower() in PICTURES and set(channels) == {0}
        if is_colour_picture or set(channels) == set(range(count)):
            continue
        missing = [f"{case}_{number:04d}{ending}" for number in sorted(set(range(count)) - set(channels))]
        if missing:
            raise ConfigError(
                f"missing in {os.fspath(folder)!r}: {shown(missing)}; dataset.json names {count} channels"
            )
        raise ConfigError(
            f"case {case!r} has the channels {sorted(channels)}, but dataset.json names {count}, numbered from 0"
        )
