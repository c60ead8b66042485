"""Listeners of a trainer, one file per theme. Names load on use."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "AbstractCallback": "abstract_callback",
    "ActivityLoss": "loss_terms",
    "BatchRepeat": "batch_repeat",
    "Checkpoint": "checkpoint",
    "EarlyStopping": "early_stopping",
    "GradientClipping": "gradients",
    "GradientNormalization": "gradients",
    "IntermediateSupervision": "loss_terms",
    "LRSchedulerCallback": "lr_scheduler",
    "LambdaCallback": "lambda_callback",
    "LongRunSelection": "long_run",
    "MetricLogger": "metric_logger",
    "NaNGuard": "nan_guard",
    "PoolMutation": "pool_mutation",
    "PoolUpdate": "pool_update",
    "ProgressBar": "progress_bar",
    "RolloutLoss": "loss_terms",
    "StateGradientNormalization": "state_gradients",
    "StepCurriculum": "step_curriculum",
    "StepSampler": "step_sampler",
    "TimeLimit": "time_limit",
    "Watchdog": "watchdog",
    "WeightAverage": "weight_average",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
