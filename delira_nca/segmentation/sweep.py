"""Choice of threshold, smallest component and number of steps, from one roll-out of each case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.segmentation.data import PreparedCases
from delira_nca.segmentation.scores import mean_dice
from delira_nca.segmentation.segmenter import Segmenter, classes_of, without_small

__all__ = ["Sweep", "sweep"]

THRESHOLDS = tuple(round(0.1 * number, 1) for number in range(1, 10))
SIZES = (1, 10, 30, 100, 300)
MULTIPLES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)
"""Numbers of steps as multiples of those that the network was trained for."""
_MOST_CASES = 20
_TOLERANCE = 0.02
"""Change of the Dice score up to which a network counts as stable."""


@dataclass(frozen=True)
class Sweep:
    """Mean Dice scores of the settings of a prediction.

    Attributes
    ----------
    horizon : int
        Number of steps that the network was trained for, of the finest level.
    dice : dict of int to float
        Score by number of steps, with threshold 0.5 and all components.
    best : dict
        ``steps``, ``threshold`` (None for several classes), ``min_size`` and their ``dice``.
    """

    horizon: int
    dice: dict[int, float]
    best: dict[str, Any]

    @property
    def is_stable(self) -> bool:
        """Whether the score after four times the steps is lower by at most 0.02."""
        return self.dice[max(self.dice)] >= self.dice[self.horizon] - _TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"horizon": self.horizon, "is_stable": self.is_stable, "dice_by_steps": self.dice, "best": self.best}


def sweep(segmenter: Segmenter, cases: PreparedCases) -> Sweep:
    """Compare all settings on up to 20 cases, each of which is rolled out once.

    The best setting is the one with the highest mean Dice score. It is chosen among many on these cases, so that its
    score on them is optimistic; with few cases, prefer the defaults.

    Parameters
    ----------
    segmenter : Segmenter
        Trained network.
    cases : PreparedCases
        Cases with masks that the network was not trained on.
    """
    preprocessing = cases.preprocessing
    values = [1] if preprocessing.instances else [int(value) for value in preprocessing.values[1:]]
    thresholds: tuple[float | None, ...] = THRESHOLDS if preprocessing.num_classes == 2 else (None,)
    horizon = segmenter.horizon
    numbers = sorted({max(1, round(by * horizon)) for by in MULTIPLES})
    scores: list[npt.NDArray[np.float64]] = []
    for number in range(min(_MOST_CASES, len(cases))):
        case = cases.raw(number)
        reference = np.asarray(case.label)
        if preprocessing.instances:
            reference = (reference > 0).astype(np.int64)
        table = np.full((len(numbers), len(thresholds), len(SIZES)), np.nan)
        for row, whole in enumerate(segmenter.states(case.data, case.spacing, numbers)):
            for column, threshold in enumerate(thresholds):
                mask = preprocessing.mask(classes_of(whole, threshold))
                for depth, size in enumerate(SIZES):
                    table[row, column, depth] = mean_dice(without_small(mask, size), reference, values)
        scores.append(table)
    mean = np.mean(scores, axis=0)
    middle = thresholds.index(0.5) if len(thresholds) > 1 else 0
    best = [int(at) for at in np.unravel_index(int(mean.argmax()), mean.shape)]
    return Sweep(
        horizon,
        {number: float(mean[at, middle, 0]) for at, number in enumerate(numbers)},
        {
            "steps": numbers[best[0]],
            "threshold": thresholds[best[1]],
            "min_size": SIZES[best[2]],
            "dice": float(mean.max()),
        },
    )
