"""Cases on the live page of a model that segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.export.cell import pack
from delira_nca.models import BasicNCAModel

__all__ = ["LARGEST_CASE", "PageCase", "describe_cases", "page_cases"]

LARGEST_CASE = 256
"""Number of cells along each axis to which larger cases are cropped."""


@dataclass(frozen=True)
class PageCase:
    """Image that a live page segments, and its reference.

    Attributes
    ----------
    name : str
        Name of the case.
    image : Tensor
        (C, h, w) preprocessed image, as input of the network.
    reference : Tensor
        (h, w) number of the class of each cell; 0 is the background.
    """

    name: str
    image: Tensor
    reference: Tensor


def page_cases(data: Any, number: int = 4) -> list[PageCase]:
    """Return the first cases with a foreground, cropped around it; cases without one follow if there are too few.

    Parameters
    ----------
    data : dataset
        Dataset with ``names`` and samples ``{"data": (C, *spatial), "label": (1, *spatial)}``, such as
        :class:`delira_nca.segmentation.PreparedCases`.
    number : int
        Maximum number of cases.

    Examples
    --------
    >>> class Data(list):
    ...     names = ("empty", "large")
    >>> label = np.zeros((1, 300, 8), np.int64)
    >>> label[0, 290] = 1
    >>> data = Data([{"data": np.zeros((3, *label.shape[1:])), "label": row} for row in (0 * label, label)])
    >>> [(case.name, tuple(case.image.shape), int(case.reference.argmax()) // 8) for case in page_cases(data)]
    [('large', (3, 256, 8), 246), ('empty', (3, 256, 8), 0)]
    """
    filled: list[PageCase] = []
    empty: list[PageCase] = []
    for index, name in enumerate(data.names):
        if len(filled) == number:
            break
        sample = data[index]
        label = np.asarray(sample["label"])[0]
        region = _region(label > 0)
        whole = (slice(None), *region)
        image = torch.as_tensor(np.ascontiguousarray(sample["data"][whole]), dtype=torch.float32)
        case = PageCase(str(name), image, torch.as_tensor(np.ascontiguousarray(label[region])))
        (filled if label.any() else empty).append(case)
    return [*filled, *empty][:number]


def _region(foreground: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the region of a case around the middle of its foreground, or around one of its cells if it is larger."""
    places = np.argwhere(foreground) if foreground.any() else np.array([foreground.shape]) // 2
    low, high = places.min(0), places.max(0) + 1
    middle = (low + high) // 2
    if (high - low).max() > LARGEST_CASE:
        middle = places[np.square(places - places.mean(0)).sum(1).argmin()]
    starts = [
        max(0, min(at - LARGEST_CASE // 2, n - LARGEST_CASE)) for at, n in zip(middle, foreground.shape, strict=True)
    ]
    return tuple(slice(int(at), int(at) + LARGEST_CASE) for at in starts)


def describe_cases(model: BasicNCAModel, cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """Validate the cases of a page, and return their names, images, references and range of brightness.

    Raises
    ------
    ConfigError, ShapeError
        If two cases have the same name, a shape does not fit, a reference contains an unknown class, or an image is not
        finite.
    """
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ConfigError(f"each case of a page has a name of its own, not {names}")
    return [_describe_case(model, case) for case in cases]


def _describe_case(model: BasicNCAModel, case: PageCase) -> dict[str, Any]:
    image, reference = case.image, case.reference
    if image.dim() != 3 or image.shape[0] != model.num_fixed_channels:
        raise ShapeError(
            f"the image of case {case.name!r} is ({model.num_fixed_channels}, h, w), not {tuple(image.shape)}"
        )
    if reference.shape != image.shape[1:]:
        raise ShapeError(
            f"the reference of case {case.name!r} is {tuple(image.shape[1:])}, not {tuple(reference.shape)}"
        )
    if not torch.isfinite(image).all():
        raise ConfigError(f"the image of case {case.name!r} holds NaN or infinity")
    last = max(2, model.num_output_channels) - 1
    if wrong := sorted(set(reference.flatten().tolist()) - set(range(last + 1))):
        raise ConfigError(f"the reference of case {case.name!r} holds {wrong[:3]}; the classes are 0 to {last}")
    low, high = np.quantile(image.numpy(), (0.005, 0.995)).tolist()
    width = high - low if math.isfinite(high - low) and high > low else 1.0
    shown = {"mean": [-low / width] * len(image), "std": [1 / width] * len(image)}
    return {"name": case.name, "image": pack(image), "reference": pack(reference, "float16"), "normalize": shown}
