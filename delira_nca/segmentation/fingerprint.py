"""Fingerprint of a data set: sizes, spacings, intensities and classes of all cases, from which the plan follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from delira_nca.data_loading.readers import CaseDataset
from delira_nca.errors import ConfigError
from delira_nca.segmentation.cases import each_case
from delira_nca.segmentation.orientation import oriented
from delira_nca.segmentation.preprocessing import content_of

__all__ = ["CaseFacts", "Fingerprint"]

_CLOSE = 16
"""Distance from 0 or 255 of values that a lossy compression leaves."""
_MOST_CLASSES = 16
"""Number of values above which a mask numbers instances, unless a description declares its classes."""


@dataclass(frozen=True)
class CaseFacts:
    """Measurements of one case.

    Attributes
    ----------
    name : str
        Name of the case.
    shape : tuple of int
        Spatial shape, of volumes with axes to the right, anterior and superior.
    spacing : tuple of float or None
        Size of a voxel in mm along each axis, if the file has one.
    num_channels : int
        Number of channels.
    content : tuple of (int, int)
        Begin and end along each axis of the region that is not constant, or has foreground.
    intensities : tuple of dict
        For each channel, ``mean``, ``std``, and ``low`` and ``high``, the quantiles 0.005 and 0.995, of the foreground
        (of the content if there is none), and ``least``, the fraction of cells with the smallest value.
    voxels : dict of int to int
        Number of voxels by value of the mask.
    num_objects, extent : int, float
        Number of connected components of the foreground, and their median length along the longest axis.
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    num_channels: int
    content: tuple[tuple[int, int], ...]
    intensities: tuple[dict[str, float], ...]
    voxels: dict[int, int]
    num_objects: int
    extent: float


def facts_of(sample: Mapping[str, Any], info: Mapping[str, Any]) -> CaseFacts:
    """Measure a case."""
    found = oriented(sample, info)
    data, label = found.data, np.asarray(found.label)
    values, counts = np.unique(label, return_counts=True)
    foreground = label > 0
    inside = content_of(data, foreground)
    content = tuple((part.start, part.stop) for part in inside)
    rows = []
    for channel in data:
        chosen = channel[foreground] if foreground.any() else channel[inside]
        low, high = map(float, np.quantile(chosen, (0.005, 0.995)))
        least = float((channel == channel.min()).mean())
        statistics = {"low": low, "high": high, "mean": float(chosen.mean()), "std": float(chosen.std())}
        rows.append({**statistics, "least": least})
    components, num_objects = ndimage.label(foreground)
    extents = [max(s.stop - s.start for s in place) for place in ndimage.find_objects(components)]
    return CaseFacts(
        name=str(sample["name"]),
        shape=tuple(label.shape),
        spacing=found.spacing,
        num_channels=len(data),
        content=content,
        intensities=tuple(rows),
        voxels={int(value): int(count) for value, count in zip(values, counts, strict=True)},
        num_objects=int(num_objects),
        extent=float(np.median(extents)) if extents else 0.0,
    )


@dataclass(frozen=True)
class Fingerprint:
    """Measurements of all cases of a data set.

    Parameters
    ----------
    cases : sequence of CaseFacts
        Measurements of the cases.
    channel_names : tuple of str or None
        Names of the channels, if a description has them.
    class_names : dict of int to str
        Names of the classes by value, if a description has them.

    Raises
    ------
    ConfigError
        If the cases do not fit together, or cannot be trained on. The message names the cases.
    """

    cases: tuple[CaseFacts, ...]
    channel_names: tuple[str, ...] | None = None
    class_names: Mapping[int, str] | None = None

    @classmethod
    def of(cls, cases: CaseDataset, *, show: Any = None) -> Fingerprint:
        """Read and measure all cases of a data set.

        Raises
        ------
        ConfigError
            If a case cannot be read, or the cases do not fit together. The message names all of them.
        """
        if not cases.has_labels:
            raise ConfigError("the images have no masks: give the folder of the masks")
        found = each_case(cases, facts_of, show=show)
        names: Mapping[str, Any] = getattr(cases, "class_names", None) or {}
        for name, value in names.items():
            if isinstance(value, list) or name.lower() == "ignore":
                kind = "a region of several values" if isinstance(value, list) else "a label to ignore"
                raise ConfigError(
                    f"the class {name!r} of the dataset.json is {kind}, which is not supported: remove it"
                )
        made = cls(tuple(found), cases.channel_names, {int(value): name for name, value in names.items()} or None)
        made.check()
        return made

    def check(self) -> None:
        """Check that the cases fit together; see :class:`Fingerprint`."""
        if len(self.cases) < 2:
            raise ConfigError(
                f"there is one case, {self.cases[0].name!r}: at least two are needed, one to train and one to "
                "validate. A large image can be cut into several files"
            )
        for what, of in (
            ("spatial axes", lambda case: len(case.shape)),
            ("channels", lambda case: case.num_channels),
        ):
            groups: dict[int, list[str]] = {}
            for case in self.cases:
                groups.setdefault(of(case), []).append(case.name)
            if len(groups) > 1:
                told = "; ".join(f"{number} in {_listed(names)}" for number, names in sorted(groups.items()))
                raise ConfigError(f"the images differ in their number of {what}: {told}")
        empty = [case.name for case in self.cases if not any(value > 0 for value in case.voxels)]
        if len(empty) == len(self.cases):
            raise ConfigError("all masks are empty: there is no value above 0")
        whole = [case.name for case in self.cases if 255 in case.voxels and not set(range(1, 255)) & case.voxels.keys()]
        others = [case.name for case in self.cases if 1 in case.voxels and 255 not in case.voxels]
        if whole and others and not set(self.values) - {0, 1, 255}:
            raise ConfigError(
                f"the foreground is 255 in the masks of {_listed(whole)}, and 1 in those of {_listed(others)}: give "
                "binarise=0 (--binarise 0), or write the masks alike"
            )
        if self.class_names is None and (blurred := [case.name for case in self.cases if _is_blurred(case.voxels)]):
            raise ConfigError(
                f"masks contain values close to 0 and 255, as lossy compression leaves them: {_listed(blurred)}. Give "
                "binarise=127 (--binarise 127)"
            )
        negative = [case.name for case in self.cases if any(value < 0 for value in case.voxels)]
        if negative:
            raise ConfigError(f"masks contain negative values: {_listed(negative)}")

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.cases[0].shape)

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.cases[0].num_channels

    @property
    def values(self) -> list[int]:
        """All values of the masks."""
        return sorted({value for case in self.cases for value in case.voxels} | {0})

    @property
    def has_instances(self) -> bool:
        """Whether the masks number objects instead of classes."""
        return self.class_names is None and len(self.values) > _MOST_CLASSES + 1

    @property
    def median_shape(self) -> tuple[int, ...]:
        """Median length of each axis."""
        return tuple(int(n) for n in np.median([case.shape for case in self.cases], axis=0))

    @property
    def median_content(self) -> tuple[int, ...]:
        """Median length of the region that is not zero, along each axis."""
        lengths = [[stop - first for first, stop in case.content] for case in self.cases]
        return tuple(int(n) for n in np.median(lengths, axis=0))

    @property
    def spacings(self) -> npt.NDArray[np.float64] | None:
        """(cases, axes) sizes of a voxel, or None if a file has none."""
        found = [case.spacing for case in self.cases]
        return None if any(spacing is None for spacing in found) else np.array(found)

    @property
    def foreground_share(self) -> float:
        """Fraction of all voxels that are foreground."""
        inside = sum(n for case in self.cases for value, n in case.voxels.items() if value > 0)
        return inside / sum(math.prod(case.shape) for case in self.cases)

    @property
    def extent(self) -> float:
        """Median length of the objects along their longest axis, in cells."""
        return float(np.median([case.extent for case in self.cases if case.num_objects]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            "channel_names": self.channel_names,
            "class_names": self.class_names,
            "cases": [asdict(case) for case in self.cases],
        }


def _is_blurred(voxels: Mapping[int, int]) -> bool:
    """Whether a mask of 0 and 255 has been compressed with loss: nearly all other values are close to one of them."""
    close = sum(n for value, n in voxels.items() if 0 < value < _CLOSE or 255 - _CLOSE < value < 255)
    between = sum(n for value, n in voxels.items() if _CLOSE <= value <= 255 - _CLOSE)
    return close > 0 and max(voxels) in range(256 - _CLOSE, 256) and min(voxels) == 0 and between <= close


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
