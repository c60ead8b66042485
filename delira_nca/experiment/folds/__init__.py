"""Cross-validation: planned, trained here or by a launcher, and told."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.folds.plan import FoldPlan
    from delira_nca.experiment.folds.result import FoldResult, KFoldResult

__all__ = ["FoldPlan", "FoldResult", "KFoldResult"]

_HOMES = {
    "FoldPlan": "plan",
    "FoldResult": "result",
    "KFoldResult": "result",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
