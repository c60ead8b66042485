"""Alias of :mod:`delira_nca.ncalab`, under the path of NCALab's API page."""

from __future__ import annotations

import importlib
from typing import Any

_API_PAGE = (
    *("BasicNCAModel", "BasicNCATrainer", "EarlyStopping", "KFoldCrossValidationTrainer", "Pool", "Prediction"),
    *("SplitDefinition", "TrainValRecord", "TrainingHistory", "TrainingStatus", "Visual"),
    *("intepret_range_parameter", "pad_input", "unwrap"),
)

__all__ = list(_API_PAGE)  # the other names can be imported, too


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("delira_nca.ncalab"), name)


def __dir__() -> list[str]:
    return dir(importlib.import_module("delira_nca.ncalab"))
