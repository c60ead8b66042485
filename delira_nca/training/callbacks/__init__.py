"""Callbacks of a trainer. Names load on use."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "AbstractCallback": "abstract_callback",
    "ActivityLoss": "loss_terms",
    "BatchRepeat": "pool_update",
    "Checkpoint": "checkpoint",
    "Console": "console",
    "EarlyStopping": "stopping",
    "GradientClipping": "optimization",
    "GradientNormalization": "optimization",
    "IntermediateSupervision": "loss_terms",
    "LRSchedulerCallback": "optimization",
    "LambdaCallback": "abstract_callback",
    "LongRunSelection": "long_run",
    "MetricLogger": "reporting",
    "MetricTracker": "controllers",
    "NaNGuard": "nan_guard",
    "PatienceController": "controllers",
    "PoolMutation": "pool_update",
    "PoolUpdate": "pool_update",
    "ProgressBar": "reporting",
    "RaiseBatchSizeOnPlateau": "controllers",
    "RolloutLoss": "loss_terms",
    "ScheduleCallback": "schedule",
    "StateGradientNormalization": "loss_terms",
    "StepCurriculum": "steps",
    "StepSampler": "steps",
    "TimeLimit": "stopping",
    "ValidationSets": "controllers",
    "Watchdog": "watchdog",
    "WeightAverage": "optimization",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
