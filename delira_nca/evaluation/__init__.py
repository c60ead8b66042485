"""How good a model is, how sure of itself, how robust: measures that need a model, or its scores, and no training."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.evaluation.artefacts import ARTEFACTS, add_artefact
    from delira_nca.evaluation.auto_stepper import AutoStepper, AutoSteps, StepCurve, quality_over_steps
    from delira_nca.evaluation.calibration import AlarmThreshold, alarm_threshold, failure_auroc, fit_temperature
    from delira_nca.evaluation.confusion import Counts, Rates, confusion_table, performance_measure
    from delira_nca.evaluation.histogram import ScoreHistogram
    from delira_nca.evaluation.holes import standard_holes
    from delira_nca.evaluation.quality import QualityCase, QualityReport, quality_report
    from delira_nca.evaluation.robustness import (
        HoleRow,
        PersistenceRow,
        RobustnessReport,
        persistence,
        regeneration,
        robustness_report,
    )
    from delira_nca.evaluation.roc import (
        Evaluation,
        error_hist,
        eval_thresh,
        evaluate,
        roc_area,
        roc_auc,
        roc_points,
    )
    from delira_nca.evaluation.runs import Runs, stochastic_runs
    from delira_nca.evaluation.scores import binary_nll, find_nearest, rescale_fudge
    from delira_nca.evaluation.spread import deviation, entropy, mutual_information, nqm, pairwise_dice
    from delira_nca.evaluation.uncertainty import (
        MCMC,
        NQM,
        Disagreement,
        Entropy,
        Estimate,
        MutualInformation,
        UncertaintyEstimator,
    )

__all__ = [
    "ARTEFACTS",
    "MCMC",
    "NQM",
    "AlarmThreshold",
    "AutoStepper",
    "AutoSteps",
    "Counts",
    "Disagreement",
    "Entropy",
    "Estimate",
    "Evaluation",
    "HoleRow",
    "MutualInformation",
    "PersistenceRow",
    "QualityCase",
    "QualityReport",
    "Rates",
    "RobustnessReport",
    "Runs",
    "ScoreHistogram",
    "StepCurve",
    "UncertaintyEstimator",
    "add_artefact",
    "alarm_threshold",
    "binary_nll",
    "confusion_table",
    "deviation",
    "entropy",
    "error_hist",
    "eval_thresh",
    "evaluate",
    "failure_auroc",
    "find_nearest",
    "fit_temperature",
    "mutual_information",
    "nqm",
    "pairwise_dice",
    "performance_measure",
    "persistence",
    "quality_over_steps",
    "quality_report",
    "regeneration",
    "rescale_fudge",
    "robustness_report",
    "roc_area",
    "roc_auc",
    "roc_points",
    "standard_holes",
    "stochastic_runs",
]

_HOMES = {
    "artefacts": ("ARTEFACTS", "add_artefact"),
    "auto_stepper": ("AutoStepper", "AutoSteps", "StepCurve", "quality_over_steps"),
    "calibration": ("AlarmThreshold", "alarm_threshold", "failure_auroc", "fit_temperature"),
    "confusion": ("Counts", "Rates", "confusion_table", "performance_measure"),
    "histogram": ("ScoreHistogram",),
    "quality": ("QualityCase", "QualityReport", "quality_report"),
    "holes": ("standard_holes",),
    "robustness": (
        "HoleRow",
        "PersistenceRow",
        "RobustnessReport",
        "persistence",
        "regeneration",
        "robustness_report",
    ),
    "roc": (
        "Evaluation",
        "error_hist",
        "eval_thresh",
        "evaluate",
        "roc_area",
        "roc_auc",
        "roc_points",
    ),
    "runs": ("Runs", "stochastic_runs"),
    "scores": ("binary_nll", "find_nearest", "rescale_fudge"),
    "spread": ("deviation", "entropy", "mutual_information", "nqm", "pairwise_dice"),
    "uncertainty": (
        "MCMC",
        "NQM",
        "Disagreement",
        "Entropy",
        "Estimate",
        "MutualInformation",
        "UncertaintyEstimator",
    ),
}

__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})
