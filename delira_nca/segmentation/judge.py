"""Judgement of a trained network on cases that it was not trained on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.evaluation import alarm_threshold, failure_auroc
from delira_nca.io.files import replaced
from delira_nca.io.json_file import parse_json
from delira_nca.seeding import generator
from delira_nca.segmentation.data import PreparedCases
from delira_nca.segmentation.scores import SCORES, case_scores, instance_scores
from delira_nca.segmentation.segmenter import Segmenter, folds_in

__all__ = [
    "FAILURE",
    "Judgement",
    "combine_folds",
    "judge_cases",
    "require_folds",
    "summarise",
    "write_judgements",
]

FAILURE = 0.7
"""Dice score below which a case counts as a failure."""
_FEWEST = 5
"""Number of good cases from which on an alarm threshold is determined."""


@dataclass(frozen=True)
class Judgement:
    """Scores and doubt of one case.

    Attributes
    ----------
    name : str
        Name of the case.
    scores : dict of int to dict
        Scores of :func:`~delira_nca.segmentation.case_scores` by class.
    doubt : float
        Doubt of the network about the case.
    instances : dict of str to float
        Scores of :func:`~delira_nca.segmentation.instance_scores`, if the masks number objects.
    image, reference, mask, doubt_map : ndarray
        Image (C, *spatial), reference, prediction and doubt of every cell on the grid of the file.
    """

    name: str
    scores: dict[int, dict[str, float]]
    doubt: float
    instances: dict[str, float]
    image: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    reference: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    mask: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    doubt_map: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def dice(self) -> float:
        """Mean Dice score of the classes that the reference or the prediction contains; 1 if there are none."""
        found = [row["dice"] for row in self.scores.values() if not math.isnan(row["dice"])]
        return float(np.mean(found)) if found else 1.0


def judge_cases(
    segmenter: Segmenter, cases: PreparedCases, numbers: Sequence[int] | None = None
) -> Iterator[Judgement]:
    """Predict cases on the grid of their files, and compare them with their masks.

    Parameters
    ----------
    segmenter : Segmenter
        Trained network.
    cases : PreparedCases
        Cases with masks.
    numbers : sequence of int, optional
        Cases to judge; all by default.
    """
    preprocessing = cases.preprocessing
    values = [1] if preprocessing.instances else [int(value) for value in preprocessing.values[1:]]
    for number in range(len(cases)) if numbers is None else numbers:
        case = cases.raw(number)
        found = segmenter(case.data, case.spacing)
        reference = np.asarray(case.label)
        instances: dict[str, float] = {}
        if preprocessing.instances:
            instances = instance_scores(found.mask, reference)
            reference = (reference > 0).astype(np.int64)
        scores = case_scores(found.mask, reference, values=values, spacing=case.spacing)
        arrays = (case.data, reference, found.mask, found.doubt_map)
        yield Judgement(cases.names[number], scores, found.doubt, instances, *arrays)


def summarise(found: Sequence[Judgement], *, seed: int = 0) -> dict[str, Any]:
    """Return means with confidence intervals, the alarm threshold, and how well the doubt finds failures.

    Parameters
    ----------
    found : sequence of Judgement
        Judged cases.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``mean`` and ``interval`` (95 %, by 1 000 bootstrap samples of the cases) by class and score, over the cases
        whose score is finite; ``num_cases_with_class``; ``instances``, the means of their scores; ``dice``, the mean
        over cases and classes; ``alarm``, the doubt above which a case should be looked at, None with fewer than five
        good cases; ``failure_auroc`` and ``doubt_correlation``, None if they are not defined.
    """
    rng = generator(seed, "bootstrap")
    draws = rng.integers(0, len(found), (1000, len(found)))
    mean: dict[str, dict[str, float]] = {}
    interval: dict[str, dict[str, list[float]]] = {}
    number: dict[str, int] = {}
    for value in found[0].scores:
        rows = {name: np.array([case.scores[value][name] for case in found]) for name in SCORES}
        mean[str(value)] = {name: _mean(row) for name, row in rows.items()}
        interval[str(value)] = {name: _interval(row, draws) for name, row in rows.items()}
        number[str(value)] = int((~np.isnan(rows["dice"])).sum())
    dice, doubt = np.array([case.dice for case in found]), np.array([case.doubt for case in found])
    failed = dice < FAILURE
    is_defined = len(found) > 2 and dice.std() > 0 and doubt.std() > 0
    return {
        "num_cases": len(found),
        "dice": float(dice.mean()),
        "mean": mean,
        "interval": interval,
        "num_cases_with_class": number,
        "instances": {name: _mean(np.array([case.instances[name] for case in found])) for name in found[0].instances},
        "alarm": alarm_threshold(doubt, failed).threshold if (~failed).sum() >= _FEWEST else None,
        "failure_auroc": failure_auroc(doubt, failed) if failed.any() and not failed.all() else None,
        "doubt_correlation": float(np.corrcoef(doubt, dice)[0, 1]) if is_defined else None,
    }


def _mean(row: npt.NDArray[np.float64]) -> float:
    finite = row[np.isfinite(row)]
    return float(finite.mean()) if len(finite) else float("nan")


def _interval(row: npt.NDArray[np.float64], draws: npt.NDArray[np.int64]) -> list[float]:
    """Return the 95 % interval of the mean of the finite values."""
    drawn = row[draws]
    is_finite = np.isfinite(drawn)
    counts = is_finite.sum(1)
    means = np.where(is_finite, drawn, 0.0).sum(1)[counts > 0] / counts[counts > 0]
    return [float(np.quantile(means, q)) for q in (0.025, 0.975)] if len(means) else [float("nan")] * 2


def write_judgements(found: Sequence[Judgement], summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``scores.csv``, one row for each case and class, and ``scores.json``."""
    with replaced(folder / "scores.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "class", *SCORES, "doubt"])
        for case in found:
            for value, row in case.scores.items():
                writer.writerow([case.name, value, *(f"{row[name]:.6g}" for name in SCORES), f"{case.doubt:.6g}"])
    plain = {
        **summary,
        "cases": {case.name: {str(v): row for v, row in case.scores.items()} for case in found},
        "cases_instances": {case.name: case.instances for case in found if case.instances},
        "doubt": {case.name: case.doubt for case in found},
    }
    with replaced(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(_finite(plain), indent=1), encoding="utf-8")


def require_folds(folds: int, number: int) -> None:
    """Check the number of folds against the number of cases or groups."""
    require_whole("folds", folds, 1, number)


def combine_folds(folder: Path) -> float:
    """Write ``scores.csv`` and ``scores.json`` of all folds in a folder, and return the mean Dice score."""
    found = []
    for part in folds_in(folder):
        file = part / "scores.json"
        scores = parse_json(file.read_bytes(), file)
        for name, rows in scores["cases"].items():
            numbers = {int(value): _with_nan(row) for value, row in rows.items()}
            instances = _with_nan(scores["cases_instances"].get(name, {}))
            doubt = math.nan if scores["doubt"][name] is None else scores["doubt"][name]
            found.append(Judgement(name, numbers, doubt, instances))
    summary = {**summarise(found), "sweep": None}
    write_judgements(found, summary, folder)
    return float(summary["dice"])


def _with_nan(row: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in row.items()}


def _finite(value: Any) -> Any:
    """Replace numbers that JSON has not by None."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
