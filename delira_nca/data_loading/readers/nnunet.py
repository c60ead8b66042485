"""The raw layout of nnU-Net: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from delira_nca.data_loading.readers.cases import Case, CaseDataset, shown
from delira_nca.data_loading.readers.description import DatasetDescription
from delira_nca.data_loading.readers.files import ENDINGS, PICTURES, find_file, normal_name, split_ending
from delira_nca.errors import ConfigError, MissingFileError, require_choice
from delira_nca.io.paths import absolute

__all__ = ["NNUNetDataset"]

_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


class NNUNetDataset(CaseDataset):
    """Dataset in the raw layout of nnU-Net, version 1 or 2. Samples are described in `CaseDataset`.

    Each channel is a separate file, ordered by number; a colour image may be one file.

    Parameters
    ----------
    root : str or path-like
        Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
    split : str
        Part of the data: ``"train"``, or ``"test"``, which has masks only if the folder ``labelsTs`` exists.
    resize, check_geometry
        See `CaseDataset`.

    Attributes
    ----------
    channel_names : tuple of str
    class_names : dict of str to int, or to a list of int where nnU-Net's classes are regions

    Raises
    ------
    MissingFileError
        If ``dataset.json`` or a folder does not exist.
    ConfigError
        If an entry of ``dataset.json`` is missing or invalid, channels or masks are missing, images have other names,
        or masks have no image. The message names the files. Reading raises it if a mask has a value that
        ``dataset.json`` does not list.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        resize: int | Sequence[int] | None = None,
        check_geometry: bool = True,
    ) -> None:
        require_choice("split", split, _FOLDERS)
        root = absolute(root)
        described = DatasetDescription(root / "dataset.json")
        channel_names = described.channel_names("channel_names", "modality")
        self.class_names = described.class_names()
        ending = described.file_ending()
        images, labels = (root / folder for folder in _FOLDERS[split])
        files = _channel_files(images, ending)
        _require_channels(files, len(channel_names), ending, images)
        masks: dict[str, Path] = {}
        if split == "train" or labels.is_dir():
            masks = {case: find_file(labels / (case + ending)) for case in files}
            missing = [case for case, path in masks.items() if not path.is_file()]
            if missing:
                raise ConfigError(f"cases without a mask in {os.fspath(labels)!r}: {shown(sorted(missing))}")
            if alone := sorted(set(_readable(labels)) - set(masks.values())):
                names = shown(path.name for path in alone)
                raise ConfigError(f"masks without an image in {os.fspath(labels)!r}: {names}")
        if split == "train":
            described.require_count("numTraining", len(files))
        super().__init__(
            (Case(case, tuple(channels.values()), masks.get(case)) for case, channels in sorted(files.items())),
            resize=resize,
            channel_names=channel_names,
            classes=described.classes(),
            check_geometry=check_geometry,
        )


def _readable(folder: Path) -> list[Path]:
    """Return the files of a folder with a supported suffix, sorted by name."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if split_ending(path.name)[1] in ENDINGS)


def _channel_files(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    """Return the files by case and by number of the channel, in ascending order."""
    if not folder.is_dir():
        raise MissingFileError(f"{os.fspath(folder)!r} is not a folder")
    pattern = re.compile(rf"(?P<case>[^.].*)_(?P<channel>\d{{4}}){re.escape(ending)}")
    files: dict[str, dict[int, Path]] = {}
    strange = []
    for path in _readable(folder):
        match = pattern.fullmatch(normal_name(path.name))
        if match:
            channels = files.setdefault(match["case"], {})
            if other := channels.get(int(match["channel"])):
                raise ConfigError(f"two files are called {normal_name(path.name)!r}: {other.name!r} and {path.name!r}")
            channels[int(match["channel"])] = path
        else:
            strange.append(path.name)
    if not files or strange:
        found = f"; there are {shown(strange)}" if strange else ""
        what = "files of other names than" if files else "no files like"
        raise ConfigError(f"there are {what} CASE_0000{ending} in {os.fspath(folder)!r}{found}")
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
