"""Statistics of a run: the losses of its iterations, the scores of its validations, and their files."""

from delira_nca.experiment.stats.criteria import Criterion, EvaluationScores
from delira_nca.experiment.stats.files import (
    load_training_stats,
    load_validation_scores,
    save_training_stats,
    save_validation_scores,
)
from delira_nca.experiment.stats.training_stats import TrainingIterationStats, TrainingStats
from delira_nca.experiment.stats.validation_scores import SyncPlan, ValidationIterationScores, ValidationScores

__all__ = [
    "Criterion",
    "EvaluationScores",
    "SyncPlan",
    "TrainingIterationStats",
    "TrainingStats",
    "ValidationIterationScores",
    "ValidationScores",
    "load_training_stats",
    "load_validation_scores",
    "save_training_stats",
    "save_validation_scores",
]
