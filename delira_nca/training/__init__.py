"""Trainers, callbacks and the sample pool. Names load on use; the abstract trainer does not import torch."""

from delira_nca._lazy import lazy_names

__all__ = [
    "AbstractNetworkTrainer",
    "ChunkedTrajectoryTrainer",
    "Pool",
    "PyTorchNetworkTrainer",
    "SamplePool",
    "Schedule",
    "TrajectoryTrainer",
    "create_optims_default_pytorch",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AbstractNetworkTrainer": "abstract_trainer",
        "Pool": "ncalab",
        "PyTorchNetworkTrainer": "pytorch_trainer",
        "SamplePool": "pool",
        "Schedule": "schedules",
        "ChunkedTrajectoryTrainer": "trajectory",
        "TrajectoryTrainer": "trajectory",
        "create_optims_default_pytorch": "optimizers",
    },
)
