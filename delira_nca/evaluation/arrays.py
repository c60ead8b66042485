"""Labels and scores as flat arrays, whatever they came as."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["IGNORED", "as_array", "labelled"]

Array = npt.NDArray[Any]

IGNORED = -1
"""Label of a cell that counts for nothing."""


def as_array(values: Any) -> Array:
    """Array of a tensor, an array or nested lists of numbers."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.element_size() < 4 else values
    return np.asarray(values)


def _pieces(values: Any) -> list[Array]:
    """Several arrays stay several: they may differ in shape."""
    several = isinstance(values, (list, tuple)) and any(getattr(value, "ndim", 0) for value in values)
    return [as_array(value) for value in values] if several else [as_array(values)]


def labelled(labels: Any, scores: Any) -> tuple[Array, npt.NDArray[np.float64]]:
    """Labels and scores of what counts.

    Parameters
    ----------
    labels : array, tensor or list of such, of 1 (positive), 0 (negative) and -1 (ignored).
    scores : of the same shapes.

    Returns
    -------
    tuple of (bool array, float64 array), both flat, without what is ignored

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If a label is none of the three, or a score that counts is NaN.

    Examples
    --------
    >>> labelled([1, 0, -1], [0.5, 0.25, 0.75])
    (array([ True, False]), array([0.5 , 0.25]))
    """
    first, second = _pieces(labels), _pieces(scores)
    if [piece.shape for piece in first] != [piece.shape for piece in second]:
        shapes = [[piece.shape for piece in pieces] for pieces in (first, second)]
        raise ShapeError(f"labels and scores have one shape, not {shapes[0]} and {shapes[1]}")
    label = np.concatenate([piece.ravel() for piece in first])
    score = np.concatenate([piece.ravel() for piece in second]).astype(np.float64)
    wrong = ~np.isin(label, (0, 1, IGNORED))
    if wrong.any():
        raise ConfigError(f"a label is 1, 0, or -1 for what is ignored, not {label[wrong][0].item()!r}")
    counts = label != IGNORED
    label, score = label[counts] == 1, score[counts]
    if np.isnan(score).any():
        raise ConfigError(f"{int(np.isnan(score).sum())} of {score.size} scores are NaN")
    return label, score
