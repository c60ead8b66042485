"""Statistics of a run: the losses of its iterations, the scores of its validations."""

from delira_nca.experiment.stats.criteria import Criterion, EvaluationScores
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
]
