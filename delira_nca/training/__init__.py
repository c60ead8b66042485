"""Trainers, callbacks and the sample pool. Names load on use; the abstract trainer does not import torch.

:class:`~delira_nca.training.tf.TfNetworkTrainer` needs the extra ``tf`` and is therefore not in ``__all__``.
"""

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

__getattr__, _ = lazy_names(
    __name__,
    {
        "AbstractNetworkTrainer": "abstract_trainer",
        "Pool": "ncalab",
        "PyTorchNetworkTrainer": "pytorch_trainer",
        "SamplePool": "pool",
        "Schedule": "schedules",
        "ChunkedTrajectoryTrainer": "trajectory",
        "TrajectoryTrainer": "trajectory",
        "TfNetworkTrainer": "tf",
        "create_optims_default_pytorch": "optimizers",
        "create_optims_default_tf": "tf",
    },
)


def __dir__() -> list[str]:
    return list(__all__)
