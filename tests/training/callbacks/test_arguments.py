"""Arguments of callbacks that cannot work are refused when the callback is made."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from delira_nca.data_loading import DataManager
from delira_nca.errors import ConfigError, ScoreModeError, UnknownNameError
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import (
    ActivityLoss,
    BatchRepeat,
    Checkpoint,
    Console,
    EarlyStopping,
    GradientClipping,
    GradientNormalization,
    IntermediateSupervision,
    LongRunSelection,
    LRSchedulerCallback,
    MetricLogger,
    MetricTracker,
    NaNGuard,
    PatienceController,
    PoolMutation,
    PoolUpdate,
    RaiseBatchSizeOnPlateau,
    RolloutLoss,
    ScheduleCallback,
    StateGradientNormalization,
    StepCurriculum,
    StepSampler,
    TimeLimit,
    ValidationSets,
    Watchdog,
    WeightAverage,
)
from delira_nca.training.callbacks.reporting import Pace

DATA = DataManager({"data": torch.zeros(4, 1).numpy()}, 4)
POOL = SamplePool(torch.ones(3, 5, 5), 8, slots={"label": torch.zeros(8)})
IMAGE = {"num_image_channels": 1}
STEP = lr_scheduler.StepLR
PLATEAU = lr_scheduler.ReduceLROnPlateau
WHOLE = "must be a whole number of at least"

WRONG = [
    (BatchRepeat, (), [{"n": n} for n in (0, -1, 1.5, True)], "n must be a whole number of at least 1"),
    (Checkpoint, (), [{name: -1} for name in ("last", "every", "top_k")], f"{WHOLE} 0"),
    (Checkpoint, (), [{"last": 1.5}, {"every": True}], f"{WHOLE} 0"),
    (Checkpoint, (), [{"every_seconds": value} for value in (-1, "soon")], "2h30m"),
    (Checkpoint, (), [{"top_k": 2}], "monitor_key"),
    (Checkpoint, (), [{"top_k": 2, "monitor_key": "mse", "mode": "best"}], ScoreModeError),
    (Console, ("termnal",), [{}], "Did you mean 'terminal'"),
    (Console, (), [{"commands": {"x": 3}}], "the command 'x' must be callable"),
    (EarlyStopping, ("loss",), [{"patience": value} for value in (-1, 2.5, "3", math.nan)], f"patience {WHOLE} 0"),
    (EarlyStopping, ("loss",), [{"min_delta": value} for value in (-0.1, "0.1", math.nan)], "min_delta must be"),
    (EarlyStopping, ("loss",), [{"mode": "best"}], ScoreModeError),
    (GradientClipping, (), [{"max_norm": 0}, {"max_norm": -1}], "must be a number above 0, not"),
    (GradientNormalization, (), [{"eps": 0}], "must be a number above 0, not"),
    (IntermediateSupervision, (), [{"at": at} for at in ((), (0,), (1.0,), (True,), (-0.5,))], ConfigError),
    (IntermediateSupervision, ((1, 2), (1.0,)), [{}], "2 steps to judge have 1 weights"),
    (IntermediateSupervision, ((1,), math.nan), [{}], "finite numbers"),
    (ActivityLoss, (), [{"num_steps": 0}], f"num_steps {WHOLE} 1, not 0"),
    (ActivityLoss, (math.inf,), [{}], "finite number, not inf"),
    (RolloutLoss, (3,), [{"name": "x"}], "the loss .* must be callable"),
    (LongRunSelection, ({"data": 1},), [{"factor": 0}], "factor must be a number above 0"),
    (LongRunSelection, ({"data": 1},), [{"factor": math.inf}], "factor"),
    (LongRunSelection, ({"data": 1},), [{"every": 0}], "every must be a whole number"),
    (LongRunSelection, ({"label": 1},), [{}], r"'data' to begin with, not only \['label'\]"),
    (LRSchedulerCallback, ("StepLR",), [{}], "scheduler_cls must be callable, not 'StepLR'"),
    (LRSchedulerCallback, (STEP,), [{"every": "batch"}], "'batch'"),
    (LRSchedulerCallback, (STEP,), [{"every": "iteration", "monitor_key": "x"}], "once per epoch"),
    (LRSchedulerCallback, (PLATEAU,), [{"every": "iteration"}], "once per epoch"),
    (MetricLogger, ("metrics.jsonl",), [{}], ConfigError),
    (MetricLogger, (), [{"every": -1}], ConfigError),
    (MetricTracker, ({"a": "up"},), [{}], "up"),
    (NaNGuard, (), [{"policy": "ignore"}], UnknownNameError),
    (NaNGuard, ("rollback",), [{"every": 0}, {"max_rollbacks": 0}, {"max_rollbacks": True}], f"{WHOLE} 1"),
    (NaNGuard, ("rollback",), [{"lr_factor": 0.0}, {"lr_factor": 1.5}], "lr_factor must be a number"),
    (Pace, (), [{"every": value} for value in (-1.0, math.inf, math.nan)], "every must be"),
    (Pace, (1.0,), [{"share": value} for value in (0.0, 1.5, math.nan)], "share must be"),
    (PatienceController, (DATA, 8, 5), [{"termination_patience": 2}], "termination_patience"),
    (RaiseBatchSizeOnPlateau, ([1], 8), [{}], "data is a DataManager"),
    (RaiseBatchSizeOnPlateau, (DATA, 2), [{}], "max_batch_size must be a whole number of at least 4, not 2"),
    (RaiseBatchSizeOnPlateau, (DATA, 8), [{"factor": 1.0}], "factor must be a number above 0 and below 1"),
    (RaiseBatchSizeOnPlateau, (DATA, 8), [{"mode": "lower"}], "lower"),
    (PoolMutation, (POOL,), [{**IMAGE, "fresh": 0.7, "mutated": 0.7}], "together at most 1"),
    (PoolMutation, (POOL,), [{**IMAGE, "fresh": -0.1}], "parts of a batch"),
    (
        PoolMutation,
        (POOL,),
        [{"num_image_channels": 3}],
        "must be a whole number from 1 to 2, not 3",
    ),
    (PoolMutation, (SamplePool(torch.zeros(3, 4, 4), 4),), [IMAGE], "the pool has no slots"),
    (PoolUpdate, (POOL.states,), [{}], "not Tensor"),
    (
        PoolUpdate,
        (POOL,),
        [{"explode_above": value} for value in (0.0, -1.0, math.nan)],
        "explode_above must be a number",
    ),
    (PoolUpdate, (POOL,), [{"damage": "disk"}], "Did you mean 'disc'"),
    (PoolUpdate, (POOL,), [{"seed_every": 0}], f"seed_every {WHOLE} 1, not 0"),
    (PoolUpdate, (POOL,), [{"damage_every": 0}], f"damage_every {WHOLE} 1, not 0"),
    (
        PoolUpdate,
        (POOL,),
        [{"noise": value} for value in (-0.1, math.nan, math.inf, "little", True)],
        "noise must be a",
    ),
    (ScheduleCallback, (), [{"schedules": value} for value in ({}, [("lr", None)], None)], "schedules are by path"),
    (
        StateGradientNormalization,
        (),
        [{"eps": value} for value in (0.0, -1.0, math.nan)],
        "eps must be a number above 0",
    ),
    (StepCurriculum, ((8, 4), (10, 12)), [{"epochs": 4}], ConfigError),
    (StepCurriculum, ((4, 8), (12, 12)), [{"epochs": 4}], ConfigError),
    (StepCurriculum, ((4, 8), (2, 12)), [{"epochs": 4}], ConfigError),
    (StepCurriculum, ((4, 8), (8, 12)), [{"epochs": 1}, {"epochs": 4, "hold": 4}], ConfigError),
    (StepSampler, (4, 4), [{}], "high must be a whole number of at least"),
    (StepSampler, (5, 4), [{}], "high must be a whole number of at least"),
    (StepSampler, (), [{"low": low, "high": 3} for low in (-1, 1.0, True)], f"low {WHOLE}"),
    (TimeLimit, (0,), [{}], ConfigError),
    (TimeLimit, ("1h",), [{"margin": "1h"}, {"margin": -1}], ConfigError),
    (TimeLimit, ("1h",), [{"every": "day"}], UnknownNameError),
    (ValidationSets, ({},), [{}], "validation sets are data by name"),
    (ValidationSets, ({"a b": DATA},), [{}], "is a word, not 'a b'"),
    (Watchdog, (), [{"seconds": 0}, {"seconds": "soon"}], ConfigError),
    (Watchdog, (), [{"action": "restart"}], UnknownNameError),
    (WeightAverage, (), [{"decay": 1.0}, {"decay": -0.1}], ConfigError),
    (WeightAverage, (), [{"every": "batch"}], UnknownNameError),
]


@pytest.mark.parametrize(
    ("callback", "arguments", "keywords", "expected"),
    [(callback, args, keywords, expected) for callback, args, several, expected in WRONG for keywords in several],
)
def test_arguments_that_cannot_work_are_refused(callback, arguments, keywords, expected):
    kind, text = (expected, None) if isinstance(expected, type) else (ConfigError, expected)
    with pytest.raises(kind, match=text):
        callback(*arguments, **keywords)
