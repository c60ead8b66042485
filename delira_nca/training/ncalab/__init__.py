"""NCALab's names and arguments for the trainer of this package. NCALab scripts run after a change of their imports."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.models.basic_nca import BasicNCAModel
    from delira_nca.models.inputs import intepret_range_parameter, pad_input, unwrap
    from delira_nca.models.prediction import Prediction, Visual
    from delira_nca.training.ncalab.history import TrainingHistory, TrainingStatus
    from delira_nca.training.ncalab.kfold import KFoldCrossValidationTrainer, SplitDefinition, TrainValRecord
    from delira_nca.training.ncalab.listeners import EarlyStopping
    from delira_nca.training.ncalab.pool import Pool
    from delira_nca.training.ncalab.trainer import BasicNCATrainer

__all__ = [
    "BasicNCAModel",
    "BasicNCATrainer",
    "EarlyStopping",
    "KFoldCrossValidationTrainer",
    "Pool",
    "Prediction",
    "SplitDefinition",
    "TrainValRecord",
    "TrainingHistory",
    "TrainingStatus",
    "Visual",
    "intepret_range_parameter",
    "pad_input",
    "unwrap",
]

__getattr__, __dir__ = lazy_names(
    "delira_nca",
    {
        "BasicNCAModel": "models.basic_nca",
        "BasicNCATrainer": "training.ncalab.trainer",
        "EarlyStopping": "training.ncalab.listeners",
        "KFoldCrossValidationTrainer": "training.ncalab.kfold",
        "Pool": "training.ncalab.pool",
        "Prediction": "models.prediction",
        "SplitDefinition": "training.ncalab.kfold",
        "TrainValRecord": "training.ncalab.kfold",
        "TrainingHistory": "training.ncalab.history",
        "TrainingStatus": "training.ncalab.history",
        "Visual": "models.prediction",
        "intepret_range_parameter": "models.inputs",
        "pad_input": "models.inputs",
        "unwrap": "models.inputs",
    },
)
