"""Listeners of a trainer, one file per theme. Names load on use."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "AbstractCallback": "abstract_callback",
    "Checkpoint": "checkpoint",
    "EarlyStopping": "early_stopping",
    "GradientClipping": "gradients",
    "GradientNormalization": "gradients",
    "LRSchedulerCallback": "lr_scheduler",
    "LambdaCallback": "lambda_callback",
    "MetricLogger": "metric_logger",
    "NaNGuard": "nan_guard",
    "PoolUpdate": "pool_update",
    "ProgressBar": "progress_bar",
    "StepCurriculum": "step_curriculum",
    "TimeLimit": "time_limit",
    "Watchdog": "watchdog",
    "WeightAverage": "weight_average",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
