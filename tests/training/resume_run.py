"""A training with everything on, as a script: ``resume_run.py schedules folder num_epochs checkpoint ...``."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.optim import lr_scheduler

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.logging import JSONLSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    Checkpoint,
    EarlyStopping,
    GradientClipping,
    GradientNormalization,
    LRSchedulerCallback,
    MetricLogger,
    NaNGuard,
    PoolUpdate,
    WeightAverage,
)

SCHEDULES = {
    "epoch": lambda: LRSchedulerCallback(lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}),
    "iteration": lambda: LRSchedulerCallback(
        lr_scheduler.MultiStepLR, {"milestones": [3, 8, 10], "gamma": 0.3}, every="iteration"
    ),
    "one_cycle": lambda: LRSchedulerCallback(
        lr_scheduler.OneCycleLR, {"max_lr": 0.02, "total_steps": 20}, every="iteration"
    ),
    "plateau": lambda: LRSchedulerCallback(
        lr_scheduler.ReduceLROnPlateau, {"patience": 0, "threshold": 0.02}, monitor_key="mse"
    ),
}


def build(schedule, folder, **changes):
    """Trainer with a pool, damage, a schedule, averages, early stopping, top-k checkpoints and a log."""
    torch.manual_seed(0)
    network = BasicNCAModel(
        **presets.growing(num_hidden_channels=4, rule=MLPRule(8), training_timesteps=(2, 5), inference_timesteps=4)
    )
    torch.nn.init.normal_(network.rule.last.weight, std=0.05)
    pool = SamplePool(make_seed(8, (6, 6)), 7, slots={"label": _labels(7)}, rng_seed=5)
    callbacks = [
        NaNGuard(),
        GradientNormalization(),
        GradientClipping(0.5),
        PoolUpdate(pool, num_damaged=1, damage="rectangle"),
        WeightAverage(0.8),
        WeightAverage(None, every="epoch", start_epoch=2, validate=False),
        SCHEDULES[schedule](),
        EarlyStopping("mse", patience=50),
        EarlyStopping("val_loss", min_delta=10.0, patience=50),
        MetricLogger(JSONLSink(Path(folder) / "metrics.jsonl"), every=2),
        Checkpoint(last=0, top_k=2, monitor_key="mse"),
    ]
    return PyTorchNetworkTrainer(
        network, folder, {"mse": mse}, torch.optim.Adam, {"lr": 1e-2}, callbacks=callbacks, seed=3, **changes
    )


def managers(num_workers=0):
    """Shuffled training data and validation data."""
    data = {"data": np.repeat(make_seed(8, (6, 6))[None].numpy(), 5, 0), "label": _labels(5).numpy()}
    train = DataManager(data, 3, num_workers, sampler_cls=RandomSampler, seed=11)
    return train, DataManager(data, 4, seed=11)


def train(trainer, num_epochs, num_workers=0, **options):
    """Train until an epoch, and return the state."""
    first, second = managers(num_workers)
    with first, second:
        trainer.train(num_epochs, first, second, val_score_key="mse", val_score_mode="lowest", **options)
    return trainer.state_dict()


def _labels(number):
    return torch.rand(number, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def main(schedules, folder, num_epochs, *former):
    """Continue the training with each schedule from its checkpoint, in a folder of its own."""
    torch.set_num_threads(1)
    for schedule, checkpoint in zip(schedules.split(","), former, strict=True):
        trainer = build(schedule, Path(folder) / schedule).update_state(checkpoint)
        torch.manual_seed(4711)
        np.random.seed(4711)
        train(trainer, int(num_epochs))
        trainer.save_state(Path(folder) / schedule / "state.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
