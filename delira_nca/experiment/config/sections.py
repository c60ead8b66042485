"""What a run is made of, as live objects; the types that its description is checked against stand here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from delira_nca.data_loading import AbstractDataset, AbstractSampler, RandomSampler
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer

__all__ = ["DataSection", "RunParts", "TaskSection", "TrainerSection"]


@dataclass(frozen=True)
class TaskSection:
    """What is to be learned, and what says how well.

    Parameters
    ----------
    criterions : name to loss; their sum is minimised. Empty: the network's own.
    metrics : name to what is measured besides.
    metric_keys : name of a criterion or metric to the names of what it is called with.
    score : decides which epoch is best; of validation where there is one. None: the last epoch is.
    mode : ``"lowest"`` or ``"highest"``: which way the score is better.
    directions : name to the same, for the other metrics. Of a loss, lower is better.
    """

    criterions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metrics: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metric_keys: dict[str, list[str]] = field(default_factory=dict)
    score: str | None = None
    mode: str = "lowest"
    directions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """What is trained, validated and tested on.

    Parameters
    ----------
    train : the samples; if ``num_splits`` is set, of all folds.
    valid, test : samples to validate and test on.
    val_split : take such a share of the training samples, or so many, to validate on. 0: none.
    num_splits, fold : divide the training samples into so many folds, and test on the one with this number, from 0.
    split_type : ``"random"``, ``"stratified"`` or ``"grouped"``, for both divisions.
    label_key, group_key : entry of a sample that holds its class, or its group. A stratified division with
        ``group_key`` keeps groups together; a random one refuses it.
    split_seed : of the divisions, so that runs of other seeds have the same folds.
    batch_size : samples in a batch of training.
    val_batch_size : samples in a batch of validation and test; ``batch_size`` by default.
    num_workers : processes that build the batches.
    transforms : what changes a batch of training.
    sampler_cls : orders the samples of training.
    drop_last : whether an incomplete last batch of training is left out.
    """

    train: AbstractDataset
    valid: AbstractDataset | None = None
    test: AbstractDataset | None = None
    val_split: float = 0.0
    num_splits: int = 0
    fold: int = 0
    split_type: str = "random"
    label_key: str = "label"
    group_key: str | None = None
    split_seed: int = 0
    batch_size: int = 1
    val_batch_size: int | None = None
    num_workers: int = 0
    transforms: Callable[..., Any] | None = None
    sampler_cls: type[AbstractSampler] = RandomSampler
    drop_last: bool = False


@dataclass(frozen=True)
class TrainerSection:
    """How it is trained.

    Parameters
    ----------
    trainer_cls : the training routine.
    optimizer_cls, lr, optimizer_params : its optimizer, learning rate, and further arguments.
    lr_scheduler_cls, lr_scheduler_params : a scheduler of torch, stepped once an epoch, or a callback class.
    save_freq : number of epochs between two checkpoints; the last epoch is saved as well; 0 writes none.
    save_iterations : number of iterations between two further checkpoints; 0 for none.
    save_seconds : time between two checkpoints, as ``600`` or ``"10m"``: epochs that end sooner are not saved, longer
        ones are saved within. None: ``save_freq`` alone decides.
    keep : number of the newest checkpoints that are kept, besides that of the best epoch; 0 keeps all.
    save_best : bool
        Whether to write a checkpoint of the best epoch, too. Its weights are in every checkpoint.
    mixed_precision, mixed_precision_kwargs : see :class:`delira_nca.models.precision.Precision`.
    device : ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ...
    options : further arguments of ``trainer_cls``.
    """

    trainer_cls: type[PyTorchNetworkTrainer] = PyTorchNetworkTrainer
    optimizer_cls: type[torch.optim.Optimizer] = torch.optim.Adam
    lr: float = 1e-3
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    lr_scheduler_cls: type[Any] | None = None
    lr_scheduler_params: dict[str, Any] = field(default_factory=dict)
    save_freq: int = 1
    save_iterations: int = 0
    save_seconds: float | str | None = None
    keep: int = 2
    save_best: bool = True
    mixed_precision: bool = False
    mixed_precision_kwargs: dict[str, Any] | None = None
    device: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunParts:
    """The live objects of a run, made anew at each call of :meth:`delira_nca.experiment.RunConfig.build`."""

    model: AbstractPyTorchNetwork
    task: TaskSection
    data: DataSection
    trainer: TrainerSection
    callbacks: list[AbstractCallback]
