"""Reader of a folder of images and a folder of masks with the same names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from delira_nca.data_loading.readers.cases import Case, CaseDataset, shown
from delira_nca.data_loading.readers.files import ENDINGS, normal_name, split_ending
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.io.paths import absolute

__all__ = ["PairedFolderDataset"]


class PairedFolderDataset(CaseDataset):
    """Images of one folder and masks of another, matched by name: ``images/ann.jpg`` and ``masks/ann.png``.

    Supported are ``.png``, ``.jpg``, ``.bmp``, ``.tif``, ``.npy``, ``.npz`` (one array in each) and, with nibabel,
    ``.nii`` and ``.nii.gz``. Files with another suffix, hidden files and subfolders are ignored; composed and
    decomposed accents in names are equal. Samples are described in `CaseDataset`.

    Parameters
    ----------
    images : str or path-like
        Folder of the images.
    labels : str, path-like or None
        Folder of the masks; it may be that of the images if suffixes distinguish them. None without masks.
    image_suffix, label_suffix : str
        End of the stem that is removed for matching: ``"_mask"`` if the mask of ``ann.jpg`` is ``ann_mask.png``.
    resize, channel_axis, binarise, check_geometry
        See `CaseDataset`.

    Raises
    ------
    MissingFileError
        If a folder does not exist.
    ConfigError
        If there are no images, an image has no mask or vice versa, or two files have the same name. The message names
        the files. Reading raises `ShapeError` if an image and its mask differ in size.

    Examples
    --------
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> for kind, array in (("images", np.ones((4, 6))), ("masks", np.eye(4, 6))):
    ...     (folder / kind).mkdir()
    ...     np.save(folder / kind / "ann.npy", array)
    >>> dataset = PairedFolderDataset(folder / "images", folder / "masks")
    >>> sample = dataset[0]
    >>> sample["data"].shape, sample["label"].sum().item(), sample["name"]
    ((1, 4, 6), 4, 'ann')
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        *,
        image_suffix: str = "",
        label_suffix: str = "",
        resize: int | Sequence[int] | None = None,
        channel_axis: int | None = None,
        binarise: float | None = None,
        check_geometry: bool = True,
    ) -> None:
        images, labels = absolute(images), None if labels is None else absolute(labels)
        shared = labels is not None and images.resolve() == labels.resolve()
        if shared and image_suffix == label_suffix:
            raise ConfigError("images and masks in one folder need image_suffix or label_suffix")
        found = _named_files(images, image_suffix, not_suffix=label_suffix if shared else "")
        if not found:
            raise ConfigError(
                f"there are no images in {os.fspath(images)!r} with the ending {', '.join(ENDINGS)}"
                + (f" and the suffix {image_suffix!r}" if image_suffix else "")
            )
        masks = {}
        if labels is not None:
            masks = _named_files(labels, label_suffix, not_suffix=image_suffix if shared else "")
            _require_partners(found, masks)
        super().__init__(
            (Case(name, (path,), masks.get(name)) for name, path in sorted(found.items())),
            resize=resize,
            channel_axis=channel_axis,
            binarise=binarise,
            check_geometry=check_geometry,
        )


def _named_files(folder: Path, suffix: str, not_suffix: str = "") -> dict[str, Path]:
    """Return files with a supported suffix by stem without ``suffix``, excluding those with ``not_suffix``."""
    if not folder.is_dir():
        raise MissingFileError(f"{os.fspath(folder)!r} is not a folder")
    named: dict[str, Path] = {}
    suffix, not_suffix = normal_name(suffix), normal_name(not_suffix)
    for path in sorted(folder.iterdir()):
        name, ending = split_ending(normal_name(path.name))
        is_other = bool(not_suffix) and name.endswith(not_suffix) and len(not_suffix) > len(suffix)
        if path.name.startswith(".") or ending not in ENDINGS or not name.endswith(suffix) or is_other:
            continue
        name = name[: len(name) - len(suffix)]
        if name in named:
            raise ConfigError(f"two files are called {name!r}: {os.fspath(named[name])!r} and {os.fspath(path)!r}")
        named[name] = path
    return named


def _require_partners(images: dict[str, Path], masks: dict[str, Path]) -> None:
    parts = []
    if images.keys() - masks.keys():
        parts.append(f"images without a mask: {shown(sorted(images.keys() - masks.keys()))}")
    if masks.keys() - images.keys():
        parts.append(f"masks without an image: {shown(sorted(masks.keys() - images.keys()))}")
    if parts:
        raise ConfigError(
            "; ".join(parts) + ". Files are matched by their names; image_suffix and label_suffix say what to leave out"
        )
