"""Samples of a segmentation run, as its config names them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from delira_nca.checks import require_number
from delira_nca.data_loading import AbstractDataset
from delira_nca.data_loading.patches import PatchDataset
from delira_nca.data_loading.readers import CaseDataset
from delira_nca.errors import ConfigError, require_choice
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute
from delira_nca.seeding import generator
from delira_nca.segmentation.cases import open_cases, select
from delira_nca.segmentation.orientation import Oriented, oriented
from delira_nca.segmentation.preprocessing import Preprocessing

__all__ = ["PreparedCases", "augmentation", "preprocessing_of", "training_patches", "whole_cases"]


class PreparedCases(AbstractDataset):
    """Preprocessed cases. A sample is ``{"data", "label"}`` on the grid of the network; all are kept in memory.

    Parameters
    ----------
    cases : CaseDataset
        Images and masks.
    names : sequence of str
        Names of the cases to use, in order.
    preprocessing : Preprocessing
        Preprocessing of the cases.
    """

    is_deterministic = True

    def __init__(self, cases: CaseDataset, names: Any, preprocessing: Preprocessing) -> None:
        self.preprocessing, self.names = preprocessing, tuple(names)
        self._cases, self._part = cases, select(cases, self.names)
        self._numbers = {name: number for number, name in enumerate(cases.names)}
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self._kept:
            found = self.raw(index)
            data, frame = self.preprocessing.image(found.data, found.spacing)
            label = self.preprocessing.label(np.asarray(found.label), frame)
            self._kept[index] = {"data": data, "label": label[np.newaxis]}
        return self._kept[index]

    def raw(self, index: int) -> Oriented:
        """Return a case with its original values and grid."""
        return oriented(self._part[index], self._cases.info(self._numbers[self.names[index]]))


def preprocessing_of(values: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of plain values, as in a config.

    Raises
    ------
    ConfigError
        For an unknown entry.
    """
    known = {field.name for field in dataclasses.fields(Preprocessing)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"preprocessing has no entry {unknown[0]!r}. Known: {', '.join(sorted(known))}")
    return Preprocessing(**values)


def whole_cases(
    source: dict[str, Any], preprocessing: dict[str, Any], part: str = "valid", splits: str | float = "splits.json"
) -> AbstractDataset:
    """Open the whole cases of a part.

    Parameters
    ----------
    source : dict
        Arguments of :func:`~delira_nca.segmentation.open_cases`.
    preprocessing : dict
        Entries of :class:`~delira_nca.segmentation.Preprocessing`.
    part : str
        ``"train"`` or ``"valid"``.
    splits : str or float
        JSON file with the names of the cases of each part; or the fraction of the cases that is held out as
        ``"valid"``, at least one. These are the same in every call with the same names of cases.

    Raises
    ------
    ConfigError
        If the file has no such part, or names a case that does not exist; if the fraction is not between 0 and 1, or
        there are fewer than two cases.
    """
    if not isinstance(splits, str | os.PathLike):
        require_choice("part", part, ("train", "valid"))
        share, cases = require_number("splits", splits, above=0, below=1), open_cases(**source)
        return PreparedCases(cases, _drawn(cases.names, share)[part], preprocessing_of(preprocessing))
    file = absolute(splits)
    names = parse_json(file.read_bytes(), file)
    if not isinstance(names, Mapping) or part not in names:
        raise ConfigError(f"{os.fspath(file)!r} has no part {part!r}: {list(names)}")
    return PreparedCases(open_cases(**source), names[part], preprocessing_of(preprocessing))


def _drawn(names: Sequence[str], share: float) -> dict[str, list[str]]:
    """Draw the cases of each part.

    Examples
    --------
    >>> {part: len(names) for part, names in _drawn(["a", "b", "c", "d", "e"], 0.3).items()}
    {'train': 3, 'valid': 2}
    """
    if len(names) < 2:
        raise ConfigError(f"at least two cases are needed, one to train and one to validate; there is {len(names)}")
    order = generator(0, "split").permutation(len(names))
    held = set(order[: min(max(1, round(share * len(names))), len(names) - 1)].tolist())
    parts: dict[str, list[str]] = {"train": [], "valid": []}
    for number, name in enumerate(sorted(names)):
        parts["valid" if number in held else "train"].append(name)
    return parts


def training_patches(
    source: dict[str, Any],
    preprocessing: dict[str, Any],
    size: list[int],
    num_patches: int,
    foreground: float = 0.5,
    splits: str | float = "splits.json",
) -> AbstractDataset:
    """Draw patches from the training cases.

    Parameters
    ----------
    source, preprocessing, splits
        See :func:`whole_cases`.
    size, num_patches, foreground
        See :class:`~delira_nca.data_loading.patches.PatchDataset`.
    """
    return PatchDataset(whole_cases(source, preprocessing, "train", splits), size, num_patches, foreground)


def augmentation(
    dims: int, mirror: Sequence[int] = (), rotate: bool = False, deform: bool = False, intensities: bool = True
) -> Callable[..., Any]:
    """Return transforms of batchgenerators for training batches.

    Parameters
    ----------
    dims : int
        Number of spatial axes.
    mirror : sequence of int
        Axes along which to mirror with probability 0.5 each.
    rotate : bool
        Whether to rotate by multiples of 90 degrees in the plane of the last two axes.
    deform : bool
        Whether to rotate by up to 15 degrees about each axis and to scale by 0.85 to 1.15, each with probability 0.3.
    intensities : bool
        Whether to change brightness and contrast by up to a quarter, and add weak noise.
    """
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.color_transforms import (
        BrightnessMultiplicativeTransform,
        ContrastAugmentationTransform,
    )
    from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import MirrorTransform, Rot90Transform

    keys = {"data_key": "data", "label_key": "label"}
    found: list[Any] = []
    if mirror:
        found.append(MirrorTransform(tuple(mirror), **keys))
    if rotate:
        found.append(Rot90Transform(axes=(dims - 2, dims - 1), **keys))
    if deform:
        found.append(_Deformation())
    if intensities:
        found += [
            BrightnessMultiplicativeTransform((0.75, 1.25), data_key="data", p_per_sample=0.3),
            ContrastAugmentationTransform((0.75, 1.25), data_key="data", p_per_sample=0.3),
            GaussianNoiseTransform((0, 0.05), data_key="data", p_per_sample=0.3),
        ]
    return Compose(found)  # type: ignore[no-any-return]


class _Deformation:
    """Rotate and scale images and labels; labels keep their type."""

    def __init__(self) -> None:
        from batchgenerators.transforms.spatial_transforms import SpatialTransform

        angle = (-math.pi / 12, math.pi / 12)
        self._transform = SpatialTransform(
            None,
            do_elastic_deform=False,
            angle_x=angle,
            angle_y=angle,
            angle_z=angle,
            scale=(0.85, 1.15),
            order_data=1,
            order_seg=0,
            random_crop=False,
            label_key="label",
            p_rot_per_sample=0.3,
            p_scale_per_sample=0.3,
        )

    def __call__(self, **batch: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._transform(**batch)
        return {**found, "label": found["label"].astype(batch["label"].dtype)}
