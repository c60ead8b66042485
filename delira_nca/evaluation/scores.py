"""Small functions of scores: the nearest of several, a stretch of the middle, the likelihood of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError
from delira_nca.evaluation.arrays import IGNORED, as_array, labelled

__all__ = ["binary_nll", "find_nearest", "rescale_fudge"]

Floats = npt.NDArray[np.float64]


def find_nearest(array: Any, value: float) -> float:
    """Element of an array that is nearest to a value; of several, the first.

    Raises
    ------
    ConfigError
        If the array is empty.

    Examples
    --------
    >>> find_nearest([0.0, 0.4, 1.0], 0.5)
    0.4
    """
    flat = as_array(array).ravel()
    if not flat.size:
        raise ConfigError("an empty array has no nearest element")
    return float(flat[np.argmin(np.abs(flat.astype(np.float64) - value))])


def rescale_fudge(pred: Any, fudge: float = 0.15) -> Floats:
    """Clip scores to [fudge, 1 - fudge], and stretch that to [0, 1]. What is given is not changed.

    Raises
    ------
    ConfigError
        If ``fudge`` is not from 0 to below 0.5.

    Examples
    --------
    >>> rescale_fudge([0.1, 0.5, 0.6], fudge=0.25).tolist()
    [0.0, 0.5, 0.7]
    """
    require_number("fudge", fudge, 0, below=0.5)
    clipped: Floats = (np.clip(as_array(pred).astype(np.float64), fudge, 1 - fudge) - fudge) / (1 - 2 * fudge)
    return clipped


def binary_nll(pred: Any, gt: Any) -> float:
    """Mean negative log likelihood of binary labels, in nats. Infinite where certainty was wrong.

    Parameters
    ----------
    pred : probabilities of class 1.
    gt : 1, 0, and -1 for what is ignored.

    Raises
    ------
    ConfigError
        If a probability is not between 0 and 1, or nothing counts.
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> round(binary_nll([0.9, 0.1], [1, 0]), 6), round(binary_nll([0.9, 0.1], [0, 1]), 6)
    (0.105361, 2.302585)
    """
    label, score = labelled(gt, pred)
    if not score.size:
        raise ConfigError(f"no label counts: all are {IGNORED}")
    if not ((score >= 0) & (score <= 1)).all():
        raise ConfigError("a probability is between 0 and 1")
    likelihood = np.where(label, score, 1 - score)
    with np.errstate(divide="ignore"):
        return float(abs(np.log(likelihood).mean()))
