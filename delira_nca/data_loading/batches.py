"""Checks of indices, and stacking of samples to batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError, ShapeError

__all__ = [
    "Batch",
    "Indices",
    "IndicesLike",
    "as_indices",
    "first_batch",
    "located",
    "name_number",
    "normal_index",
    "require_keys",
    "require_name",
    "stack",
]

Batch = dict[str, npt.NDArray[Any]]
Indices = npt.NDArray[np.int64]
IndicesLike = Sequence[int] | npt.NDArray[Any]


def as_indices(indices: IndicesLike, length: int) -> Indices:
    """Check indices of samples and convert them to an array.

    Returns
    -------
    (len(indices),) int64 array, without a copy if possible

    Raises
    ------
    ConfigError
        If they are not a non-empty one-dimensional sequence of integers from 0 to ``length - 1``.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or array.size == 0:
        raise ConfigError(f"indices must be a non-empty list of integers, not one of shape {array.shape}")
    if array.dtype.kind not in "iu":
        cure = "; turn a mask into indices with np.flatnonzero(mask)" if array.dtype.kind == "b" else ""
        raise ConfigError(f"indices must be integers, not {array.dtype}{cure}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= length:
        wrong = low if low < 0 else high
        raise ConfigError(f"index {wrong} is out of range: the {length} samples are numbered 0 to {length - 1}")
    return array.astype(np.int64, copy=False)


def first_batch(data: Any) -> Mapping[str, Any]:
    """Return the first batch of data without starting workers.

    Parameters
    ----------
    data : DataManager, AbstractDataset or mapping
        Data; a mapping is a batch already. The batch of a dataset is its first sample.
    """
    if isinstance(data, Mapping):
        return data
    found: Mapping[str, Any]
    if hasattr(data, "get_batchgen"):
        batches = data.get_batchgen()
        found = batches.build(0) if hasattr(batches, "build") else next(iter(batches))  # build starts no worker
    elif hasattr(data, "take"):
        found = data.take([0])
    else:
        raise ConfigError(f"data is a data manager, a dataset or a batch, not a {type(data).__name__}")
    return found


def normal_index(index: int, length: int) -> int:
    """Return a non-negative index; negative indices count from the end, as in a list."""
    if not -length <= index < length:
        raise IndexError(f"there is no sample {index}: the {length} samples are numbered 0 to {length - 1}")
    return int(index) % length


def require_name(key: object) -> str:
    """Check that a key of a sample is a string."""
    if not isinstance(key, str):
        raise ConfigError(f"the names in a dataset are strings, not {key!r}")
    return key


def name_number(number: int) -> str:
    """Default name of a sample in messages."""
    return f"sample {number}"


def require_keys(
    sample: Mapping[str, Any],
    number: int,
    first: Mapping[str, Any],
    first_number: int,
    name: Callable[[int], str] = name_number,
) -> None:
    """Check that a sample has the keys of the first; ``name`` returns the name of a sample for messages."""
    if sample.keys() != first.keys():
        raise ConfigError(
            f"{name(number)} has the keys {sorted(map(str, sample))}, "
            f"but {name(first_number)} has {sorted(map(str, first))}; all samples need the same"
        )


def stack(
    samples: Sequence[Mapping[str, Any]], numbers: Sequence[int], name: Callable[[int], str] = name_number
) -> Batch:
    """Stack samples key by key along a new first axis; ``numbers`` are their indices, for messages.

    Raises
    ------
    ConfigError, ShapeError
        If the samples differ in their keys, or in the shape of an entry.
    """
    first = samples[0]
    for number, sample in zip(numbers, samples, strict=True):
        if sample.keys() != first.keys():
            require_keys(sample, number, first, numbers[0], name)
    batch: Batch = {}
    for key in first:
        parts = [np.asarray(sample[key]) for sample in samples]
        for number, part in zip(numbers, parts, strict=True):
            if part.shape != parts[0].shape:
                raise ShapeError(
                    f"cannot stack {key!r}: it has the shape {part.shape} in {name(number)}, "
                    f"but {parts[0].shape} in {name(numbers[0])}"
                )
        batch[require_name(key)] = np.stack(parts)
    return batch


def located(error: Exception, where: str) -> Exception:
    """Return an error of the same type with the location prepended to the message, to be raised from the original.

    If the type does not take a message, a `DeliraNCAError` that names it is returned; for a missing file, a
    `MissingFileError`. The latter avoids errors that could be mistaken for the end of an iteration.

    Examples
    --------
    >>> located(ValueError("odd size"), "sample 3 ('a.png')")
    ValueError("sample 3 ('a.png'): odd size")
    """
    if isinstance(error, FileNotFoundError) and not isinstance(error, DeliraNCAError):
        return MissingFileError(f"{where}: {error}")
    kind, message = type(error), f"{where}: {error}"
    if not isinstance(error, (LookupError, StopIteration)) or isinstance(error, DeliraNCAError):
        try:
            same = kind(message)
        except Exception:  # the type takes other arguments than a message
            same = None
        if same is not None and str(same) == message:
            return same
    return DeliraNCAError(f"{where}: {kind.__name__}: {error}")
