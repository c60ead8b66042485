"""Names of NCALab's module ``ncalab.training``."""

from delira_nca.ncalab.history import TrainingHistory, TrainingStatus
from delira_nca.ncalab.kfold import KFoldCrossValidationTrainer, SplitDefinition, TrainValRecord
from delira_nca.ncalab.listeners import EarlyStopping
from delira_nca.ncalab.pool import Pool
from delira_nca.ncalab.trainer import BasicNCATrainer

__all__ = [
    "BasicNCATrainer",
    "EarlyStopping",
    "KFoldCrossValidationTrainer",
    "Pool",
    "SplitDefinition",
    "TrainValRecord",
    "TrainingHistory",
    "TrainingStatus",
]
