"""Trainer for networks in PyTorch."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delira_nca.assembly.assemble import AssembledLoss
from delira_nca.checks import accepted_keywords, is_whole, plain_numbers
from delira_nca.data_loading.batches import first_batch
from delira_nca.errors import CheckpointError, ConfigError, RunLockedError, ShapeError, refuse_unknown_keywords
from delira_nca.io.checkpoint import load_checkpoint, save_checkpoint
from delira_nca.io.files import sweep
from delira_nca.io.manifest import Manifest
from delira_nca.io.network import describe_network
from delira_nca.io.paths import absolute
from delira_nca.io.resume import ResumePlan, plan_resume
from delira_nca.io.run_lock import RunLock
from delira_nca.losses.metric import is_metric
from delira_nca.models.compiled import unwrapped
from delira_nca.models.precision import Precision
from delira_nca.models.pytorch_network import (
    DEFAULT_KEYS,
    AbstractPyTorchNetwork,
    LossTerm,
    declared_loss_names,
    entry,
)
from delira_nca.rollout.backends import begin_run
from delira_nca.seeding import derive_seed, isolated_rng, only_thread
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer, Path
from delira_nca.training.batches import batches_of, check_batch, check_source
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.checkpoint import Checkpoint
from delira_nca.training.callbacks.optimization import LRSchedulerCallback
from delira_nca.training.callbacks.stopping import Duration, to_seconds
from delira_nca.training.distributed import find_context
from delira_nca.training.distributed.context import ALONE, ProcessContext
from delira_nca.training.first_batch import checked
from delira_nca.training.memory_check import MemoryCheck
from delira_nca.training.optimizers import OptimFn, create_optims_default_pytorch, make_optimizers, require_plain_steps
from delira_nca.training.run_environment import (
    backends_of,
    changes,
    choose_device,
    computation,
    run_environment,
    validate_state,
)
from delira_nca.training.scores import check_measured_names, check_value_names
from delira_nca.training.set_values import SetValues, as_arrays, predict_batches

__all__ = ["PyTorchNetworkTrainer"]

_LOGGER = logging.getLogger("delira_nca")
FORMAT_VERSION = 1
Functions = Mapping[str, Callable[..., Tensor]]


@plain_numbers
class PyTorchNetworkTrainer(AbstractNetworkTrainer):
    """Train and validate a network in PyTorch.

    Parameters
    ----------
    network : AbstractPyTorchNetwork
        Network with the methods ``closure`` and ``prepare_batch``. It is trained in place. The state dict of a network
        wrapped by ``torch.compile`` is saved under the names of the original network.
    save_path : str or path, optional
        Folder of the checkpoints; no checkpoints are written if None.
    criterions : mapping of str to callable, or AssembledLoss, optional
        Loss functions by name; their sum, ``"loss"``, is minimised. If None or empty, the network's own ``loss`` is. A
        loss of :func:`delira_nca.assembly.assemble_for_training` brings its metrics and the names of its arguments.
    optimizer_cls, optimizer_params : type of Optimizer and mapping, optional
        Class and keyword arguments of the optimizer.
    metrics : mapping of str to callable, optional
        Functions by name that are measured, not minimised.
    lr_scheduler_cls, lr_scheduler_params : type and mapping, optional
        Class and keyword arguments of a torch scheduler, which is stepped once per epoch, or of a callback.
    gpu_ids : sequence of int
        Indices of the GPUs: ``[]`` for the CPU, ``[n]`` for one GPU.
    save_freq : int
        Number of epochs between two checkpoints; 0 writes none. The last epoch is always saved. The 2 newest
        checkpoints and that of the best epoch are kept; register a ``Checkpoint`` to keep others.
    optim_fn : callable
        Function of network, optimizer class and parameters that returns the optimizers by name.
    fold : int
        Number of the fold, from 0.
    callbacks : sequence
        Callbacks, called in this order, before those of the scheduler and the checkpoints.
    start_epoch : int
        Number of the first epoch.
    mixed_precision, mixed_precision_kwargs : bool and mapping, optional
        Whether to train with mixed precision, and its options; see :class:`delira_nca.models.precision.Precision`.
    metric_keys : mapping, optional
        Names of the arguments of a criterion or metric by its name: entries of the batch and parts of the prediction;
        ``("pred", "label")`` by default.
    val_freq : int
        Validate in every n-th epoch.
    save_seconds : float or str, optional
        Time between two checkpoints, such as ``600`` (seconds) or ``"10m"``. Shorter epochs are not all saved; longer
        ones are also saved between batches.
    device : str or torch.device, optional
        Device, instead of ``gpu_ids``; ``"auto"`` selects a GPU if one is available.
    seed : int
        Seed of all random numbers of the training: numbers of steps, fire masks, dropout.

    Attributes
    ----------
    loss_terms : dict of str to LossTerm
        Terms of the training loss by name, added by callbacks; see :mod:`delira_nca.models.pytorch_network`.
    current_batch : mapping
        Batch of the iteration that is being computed; empty otherwise.
    current_prediction, current_losses : object and mapping of str to Tensor
        Prediction and losses of that batch, available from the backward pass on. None and empty otherwise, and for a
        network with its own closure.

    Raises
    ------
    ConfigError, CallbackTypeError
        For unsuitable or unknown arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from delira_nca.models import BasicNCAModel, presets
    >>> from delira_nca.losses import mse
    >>> network = BasicNCAModel(**presets.growing(training_timesteps=4))
    >>> trainer = PyTorchNetworkTrainer(network, None, {"mse": mse}, torch.optim.Adam, {"lr": 2e-3})
    >>> batch = {"data": np.zeros((2, 16, 8, 8)), "label": np.zeros((2, 4, 8, 8))}
    >>> trained = trainer.train(1, [batch])
    >>> trainer.history
    [{'epoch': 1, 'mse': 0.0, 'loss': 0.0}]
    """

    STATE_KEYS = AbstractNetworkTrainer.STATE_KEYS | {"save_freq", "criterions", "metrics"}

    _lock: RunLock | None = None
    """Lock of the checkpoint folder while a training is running, otherwise None."""

    def __init__(
        self,
        network: AbstractPyTorchNetwork,
        save_path: Path | None,
        criterions: Functions | AssembledLoss | None = None,
        optimizer_cls: type[Optimizer] = torch.optim.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        metrics: Functions | None = None,
        lr_scheduler_cls: type[Any] | None = None,
        lr_scheduler_params: Mapping[str, Any] | None = None,
        gpu_ids: Sequence[int] = (),
        save_freq: int = 1,
        optim_fn: OptimFn = create_optims_default_pytorch,
        fold: int = 0,
        callbacks: Sequence[Any] = (),
        start_epoch: int = 1,
        mixed_precision: bool = False,
        mixed_precision_kwargs: Mapping[str, Any] | None = None,
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        val_freq: int = 1,
        save_seconds: Duration | None = None,
        device: str | torch.device | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        refuse_unknown_keywords(type(self).__name__, kwargs, _argument_names(type(self)))
        network = unwrapped(network)
        loss_terms: dict[str, LossTerm] = {}
        if isinstance(criterions, AssembledLoss):
            loss_terms = dict(criterions.terms)
            metrics = {**dict[str, Any](criterions.metrics()), **(metrics or {})}
            metric_keys = {**criterions.metric_keys(), **(metric_keys or {})}
            criterions = criterions.criterions()
        functions: Functions | None = criterions
        self._check(network, functions, metrics, metric_keys, save_freq, start_epoch)
        super().__init__(fold, callbacks)
        self.save_path = None if save_path is None else absolute(save_path)
        self.save_freq = int(save_freq)
        self.criterions, self.metrics = dict(functions or {}), dict(metrics or {})
        self.metric_keys, self.loss_terms = dict(metric_keys or {}), loss_terms
        derive_seed(seed)
        self.start_epoch, self.val_freq, self.seed = int(start_epoch), val_freq, int(seed)
        self._device_argument = device
        self.save_seconds = None if save_seconds is None else to_seconds(save_seconds)
        if self.save_seconds is not None and not save_freq:
            raise ConfigError(f"save_freq=0 writes no checkpoints, but save_seconds={save_seconds!r} is given")
        self._best_weights: dict[str, Tensor] | None = None
        self.current_batch: Mapping[str, Any] = {}
        self.current_prediction: Any = None
        self.current_losses: Mapping[str, Tensor] = {}
        self._means, self._begun_means = SetValues(), None
        self._measuring: Functions = self.metrics
        self._checked: set[bool] = set()
        self._first_validation_batch: Mapping[str, Any] | None = None
        self._memory_check = MemoryCheck()
        self._setup(
            network,
            optim_fn,
            optimizer_cls,
            optimizer_params,
            lr_scheduler_cls,
            lr_scheduler_params,
            gpu_ids,
            mixed_precision,
            mixed_precision_kwargs,
        )

    @staticmethod
    def _check(
        network: Any,
        criterions: Functions | None,
        metrics: Functions | None,
        metric_keys: Mapping[str, Any] | None,
        save_freq: int,
        start_epoch: int,
    ) -> None:
        if not isinstance(network, nn.Module) or not all(hasattr(network, n) for n in ("closure", "prepare_batch")):
            raise ConfigError(f"network is a module with closure and prepare_batch, not {type(network).__name__}")
        for what, given in (("criterion", criterions), ("metric", metrics)):
            if given is not None and not isinstance(given, Mapping):
                raise ConfigError(f"{what}s are functions by name, such as {{'mse': nn.MSELoss()}}, not {given!r}")
            for name, function in (given or {}).items():
                if isinstance(function, type):
                    raise ConfigError(f"{what} {name!r} is the class {function.__name__}: give an object of it")
                if not callable(function) and not (what == "metric" and is_metric(function)):
                    raise ConfigError(f"{what} {name!r} is called with tensors, but {function!r} cannot be called")
        check_value_names(criterions or dict.fromkeys(_own_loss_names(network)), metrics or {})
        if not criterions and not getattr(network, "has_loss", getattr(network, "loss_names", None) is not None):
            raise ConfigError(f"there is nothing to minimise: {type(network).__name__} has no loss; give criterions")
        functions = {**(criterions or {}), **(metrics or {})}
        is_wiring = isinstance(metric_keys or {}, Mapping)
        if not is_wiring or any(not isinstance(keys, (tuple, list)) for keys in (metric_keys or {}).values()):
            raise ConfigError(
                "metric_keys are the names of the arguments of a criterion or metric by its name, such as "
                f"{{'mse': ('pred', 'label')}}, not {metric_keys!r}"
            )
        refuse_unknown_keywords("metric_keys", [name for name in metric_keys or {} if name not in functions], functions)
        if not is_whole(save_freq) or save_freq < 0:
            raise ConfigError(f"save_freq is a number of epochs, 0 for never, not {save_freq!r}")
        if not is_whole(start_epoch) or start_epoch < 1:
            raise ConfigError(f"start_epoch is at least 1, not {start_epoch!r}")

    @staticmethod
    def _find_context() -> ProcessContext:
        """Context of the processes started by ``torchrun``."""
        return find_context()

    def _setup(
        self,
        network: AbstractPyTorchNetwork,
        optim_fn: OptimFn,
        optimizer_cls: type[Optimizer],
        optimizer_params: Mapping[str, Any] | None,
        lr_scheduler_cls: type[Any] | None,
        lr_scheduler_params: Mapping[str, Any] | None,
        gpu_ids: Sequence[int],
        mixed_precision: bool,
        mixed_precision_kwargs: Mapping[str, Any] | None,
    ) -> None:
        """Move the network to its device; create optimizers, precision and callbacks."""
        self.device = choose_device(*self.ranks.device(gpu_ids, self._device_argument))
        self.input_device = self.output_device = self.device
        self.network = network.to(self.device)
        self.optimizers = make_optimizers(network, optim_fn, optimizer_cls, optimizer_params)
        for name, optimizer in self.optimizers.items():
            rates = [group.get("lr") for group in optimizer.param_groups]
            if not all(math.isfinite(float(rate)) for rate in rates if isinstance(rate, (int, float, Tensor))):
                raise ConfigError(f"the learning rate of optimizer {name!r} is not finite")
        self._warn_of_other_weights()
        losses = self.criterions or dict.fromkeys(_own_loss_names(network))
        check_value_names(losses, self.metrics, self.optimizers)
        if not self._has_own_closure:
            is_sparse = any(getattr(module, "sparse", False) is True for module in network.modules())
            require_plain_steps(self.optimizers, has_sparse_gradients=is_sparse)
        self.precision = Precision(mixed_precision, self.device.type, mixed_precision_kwargs)
        self.precision.check(backends_of(network, self.precision))
        if mixed_precision and (doubles := [n for n, p in network.named_parameters() if p.dtype == torch.float64]):
            raise ConfigError(f"mixed_precision needs weights of float32, but {doubles[0]!r} is of float64")
        if lr_scheduler_params and lr_scheduler_cls is None:
            raise ConfigError(
                f"lr_scheduler_params={dict(lr_scheduler_params)} have no effect without lr_scheduler_cls"
            )
        if lr_scheduler_cls is not None:
            params = dict(lr_scheduler_params or {})
            is_callback = isinstance(lr_scheduler_cls, type) and issubclass(lr_scheduler_cls, AbstractCallback)
            callback = lr_scheduler_cls(**params) if is_callback else LRSchedulerCallback(lr_scheduler_cls, params)
            self.register_callback(callback)
        if self.save_path is not None and not any(isinstance(c, Checkpoint) for c in self.callbacks):
            self.register_callback(Checkpoint())

    def _warn_of_other_weights(self) -> None:
        """Log a warning about optimized weights that checkpoints do not contain."""
        modules = [self.network, *self._modules_of_losses().values()]
        known = {id(parameter) for module in modules for parameter in module.parameters()}
        for name, optimizer in self.optimizers.items():
            others = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in known]
            if others and self.save_path is not None:
                _LOGGER.warning(
                    "optimizer %r changes %d tensors that belong neither to the network nor to a criterion: "
                    "checkpoints do not contain them",
                    name,
                    len(others),
                )

    # One epoch ----------------------------------------------------------------------------------------------------

    def _train_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        """Train on every batch and return the means over samples of losses and metrics."""
        self.network.train()
        for iter_num, batch in enumerate(batchgen, start=self.batch_index):
            self._train_batch(batch, iter_num, epoch)
        if not (result := self._means.result()) and not self._left_early:
            raise ConfigError(f"the training data gave no batch in epoch {epoch}")
        return result

    def _check_validation(self, source: Any) -> None:
        """Read the first validation batch, to compare it with the first training batch before the first step."""
        if self.step or self._has_own_closure or not self.ranks.is_alone or isinstance(source, Iterator):
            return
        with isolated_rng(derive_seed(self.seed, "validation")):
            try:
                batch = first_batch(source) if hasattr(source, "get_batchgen") else next(iter(source))
            except StopIteration:  # the validation itself raises the error
                return
        check_batch(batch, "validation batch 0")
        self._first_validation_batch = batch

    def _compare_with_validation(self, batch: Mapping[str, Any]) -> None:
        """Check that the entries that losses use have the same channels in training and validation."""
        other, self._first_validation_batch = self._first_validation_batch, None
        if other is None:
            return
        wired = [key for name in self.criterions for key in self.metric_keys.get(name, DEFAULT_KEYS)]
        for key in dict.fromkeys(("data", *(wired if self.criterions else ["label"]))):
            if key not in batch:
                continue
            ours, theirs = (np.shape(entry(b, key, "validation")) for b in (batch, other))
            has_channels = len(ours) > 2 and len(ours) == np.ndim(batch.get("data", 0))  # labels may have none
            if len(ours) != len(theirs) or (has_channels and ours[1] != theirs[1]):
                raise ShapeError(f"{key!r} has the shape {ours} in training, and {theirs} in validation")

    def _train_batch(self, batch: Mapping[str, Any], iter_num: int, epoch: int) -> None:
        """Train on one batch."""
        self._iterate(batch, iter_num, epoch, train=True)

    def _validate_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        """Evaluate losses and metrics on every batch and return the means over samples."""
        self.network.eval()
        means = SetValues(self.metrics, self.ranks)
        for iter_num, batch in enumerate(batchgen):
            values, _ = self._iterate(batch, iter_num, epoch, train=False, into=means)
            means.add(values, self.ranks.num_samples(batch))
        if not (result := means.result()):
            raise ConfigError(f"the validation data gave no batch in epoch {epoch}")
        return result

    def _iterate(
        self, batch: Mapping[str, Any], iter_num: int, epoch: int, *, train: bool, into: SetValues | None = None
    ) -> tuple[dict[str, Any], Any]:
        """Run hooks and closure on one batch; training routines are composed of calls of this method.

        Parameters
        ----------
        into : SetValues, optional
            Values of the validation set, to which metrics over the whole set are added.

        Returns
        -------
        tuple of (losses and metrics, prediction), detached
            In training, the step counter is increased, and the values are added to the means of the epoch.
        """
        event = {"iter_num": iter_num, "curr_epoch": epoch, "global_iter_num": self.step, "train": train}
        check_batch(batch, f"{'batch' if train else 'validation batch'} {iter_num} of epoch {epoch}")
        self._compare_with_validation(batch)
        batch = self._dispatch_iter_begin(batch, **event)
        data_dict = self.network.prepare_batch(dict(batch), self.input_device, self.output_device)
        if train and type(self)._closure is PyTorchNetworkTrainer._closure:
            self._memory_check(self.network, data_dict, self.precision)
        self.current_batch = dict(data_dict)
        self._measuring = (self._means if train else into or SetValues(self.metrics)).functions
        values, prediction = self._closure(dict(data_dict), iter_num, train=train)
        self.current_batch, self.current_prediction, self.current_losses = {}, None, {}
        values = self.ranks.mean(values)
        if self._callbacks.listens("at_iter_end"):
            self._dispatch("at_iter_end", data_dict=data_dict, metrics=values, prediction=prediction, **event)
        if train:
            self._means.add(values, self.ranks.num_samples(batch))
            self._finish_iteration(iter_num, epoch)
        return values, prediction

    @property
    def _has_own_closure(self) -> bool:
        """Whether the training step differs from that of :class:`AbstractPyTorchNetwork`."""
        is_base = type(self)._closure is PyTorchNetworkTrainer._closure
        return not is_base or type(self.network).closure is not AbstractPyTorchNetwork.closure

    def _closure(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Call the closure of the network with seeds that depend only on the iteration."""
        return self._call_closure(data_dict, iter_num, train=train)

    def _call_closure(
        self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool, partial: bool = False
    ) -> tuple[dict[str, Any], Any]:
        keys = ("train", self.step) if train else ("valid", iter_num)
        terms = {"terms": self.loss_terms} if train and self.loss_terms else {}
        criterions, metrics = self.criterions, self._measuring
        if is_first := train not in self._checked:
            known, own = self.metric_keys, self._has_own_closure
            criterions = checked(criterions, known, what="criterion", differentiated=train, values=not own)
            metrics = checked(metrics, known, what="metric", values=not own)
        options: dict[str, Any] = {"partial": True} if partial else {**self.ranks.closure_options(), **terms}
        options |= {"fold": self.fold, "batch_nr": self.step if train else iter_num}
        options |= {"keys": self.metric_keys, "precision": self.precision, "watch": self._watch}
        options |= {"seed": derive_seed(self.seed, "rollout", *keys)}
        with isolated_rng(derive_seed(self.seed, "closure", *keys, *self.ranks.stream)), self.ranks.working():
            returned = self.network.closure(
                self.network,
                data_dict,
                self.optimizers if train else {},
                criterions,
                metrics,
                **accepted_keywords(self.network.closure, options),
            )
        measured, losses, prediction = _checked_result(returned)
        if is_first:
            if shared := sorted(measured.keys() & losses.keys()):
                raise ConfigError(f"closure returns {shared[0]!r} as a loss and as a metric: choose two names")
            check_measured_names({**measured, **losses}, train=train)
            self._checked.add(train)
        return {name: v for name, v in {**measured, **losses}.items() if v is not None}, prediction

    def _watch(self, prediction: Any, losses: Mapping[str, Tensor]) -> None:
        self.current_prediction, self.current_losses = prediction, losses

    def _values_of_epoch(self) -> dict[str, float]:
        """Means over the epoch, used if a custom routine returns None."""
        return self._means.result()

    def predict(
        self,
        batchgen: Iterable[Mapping[str, Any]],
        batch_size: int | None = None,
        *,
        share: bool = False,
        batchsize: int | None = None,
    ) -> tuple[Any, list[Any], dict[str, float]]:
        """Predict all batches of a generator.

        Parameters
        ----------
        batchgen : iterable of mapping
            Batches to predict.
        batch_size : int, optional
            Number of samples per batch, instead of that of ``batchgen``; the last batch may be smaller.
        batchsize : int, optional
            Alias of ``batch_size``, as in delira.
        share : bool
            Whether the ranks share the work: all of them call this method, each predicts a part of every batch, and all
            return the whole. By default every rank predicts all of its own batches.

        Returns
        -------
        tuple of (predictions, labels, means)
            One array over all samples (a list of arrays if shapes differ), or a dict of these by name if the network
            has several outputs; a list of the labels of each batch, as dicts if ``metric_keys`` uses other entries
            than ``"label"``; and those losses and metrics of all samples for which the arguments are available.
        """
        batch_size = batchsize if batch_size is None else batch_size
        check_source("batchgen", batchgen)
        batchgen = batches_of(batchgen, 0)

        def evaluate(batch: Mapping[str, Any], number: int) -> tuple[dict[str, Any], Any]:
            data_dict = self.network.prepare_batch(dict(batch), self.input_device, self.output_device)
            self._measuring = measured.functions
            if self._has_own_closure:
                if any(key in data_dict for key in targets):
                    measured_here, prediction = self._closure(data_dict, number, train=False)
                    values = {name.removeprefix("val_"): value for name, value in measured_here.items()}
                else:
                    keys = ("valid", number)
                    rng = isolated_rng(derive_seed(self.seed, "closure", *keys))
                    with rng, self.ranks.working(), torch.no_grad(), self.precision.autocast():
                        seed = derive_seed(self.seed, "rollout", *keys)
                        values, prediction = {}, self.network.forward_batch(data_dict, seed=seed)[0]
            else:
                values, prediction = self._call_closure(data_dict, number, train=False, partial=True)
            return values, as_arrays(prediction)

        ranks = self.ranks if share else ALONE
        measured = SetValues(self.metrics, ranks)
        wired = [key for keys in self.metric_keys.values() for key in keys]
        targets = dict.fromkeys(("label", *(key for key in wired if key != "data")))
        was_training = self.network.training
        self.network.eval()
        try:
            with nullcontext() if share else self.ranks.no_sync():
                return predict_batches(evaluate, batchgen, batch_size, ranks, measured, tuple(targets))
        finally:
            self.network.train(was_training)

    @property
    def _training_metrics(self) -> dict[str, Any]:
        """Metrics that are also evaluated on training batches."""
        return {name: f for name, f in self.metrics.items() if not getattr(f, "validation_only", False)}

    def _score_names(self, *, validated: bool) -> list[str] | None:
        """Names of losses and metrics, or None if a custom routine may compute others."""
        losses = self.criterions or _own_loss_names(self.network)
        names = [*losses, *(self.metrics if validated else self._training_metrics), "loss"]
        routine = "_validate_single_epoch" if validated else "_train_single_epoch"
        own_closure = type(self.network).closure is not AbstractPyTorchNetwork.closure
        if not losses or own_closure or getattr(type(self), routine) is not getattr(PyTorchNetworkTrainer, routine):
            return None
        return list(dict.fromkeys([*names, *(f"val_{name}" for name in names)] if validated else names))

    # Hooks --------------------------------------------------------------------------------------------------------

    def _at_training_begin(self, *, num_epochs: int | None = None) -> None:
        """Enable the log message about the back ends of this run, and dispatch ``at_training_begin``."""
        if getattr(self.network, "training_timesteps", None) == 0:
            raise ConfigError(f"{type(self.network).__name__} must have training_timesteps of at least 1, not 0")
        begin_run(self.run_id, quiet=not self.ranks.is_main)
        super()._at_training_begin(num_epochs=num_epochs)

    def _at_epoch_begin(
        self, metrics_val: Mapping[str, float], val_score_key: str | None, epoch: int, num_epochs: int
    ) -> None:
        """Start the means of the epoch, or continue with those of a resumed epoch."""
        self._means = SetValues(self._training_metrics, self.ranks, self._begun_means)
        self._begun_means = None
        super()._at_epoch_begin(metrics_val, val_score_key, epoch, num_epochs)

    def _at_epoch_end(
        self, metrics_val: Mapping[str, float], val_score_key: str | None, epoch: int, is_best: bool
    ) -> None:
        """Store the weights of the best epoch, and dispatch ``at_epoch_end``."""
        if is_best:
            self._best_weights = {k: _copied(v) for k, v in self.network.state_dict().items()}
        super()._at_epoch_end(metrics_val, val_score_key, epoch, is_best)

    def best_network(self) -> AbstractPyTorchNetwork:
        """Return a copy of the network of the best epoch, or the network itself if no score is given.

        The trainer's own network keeps the weights of the last epoch, so that training can continue. If weights are
        NaN or infinite, an error is logged.
        """
        if self._best_weights is None or self.best.score is None:
            network = self.network
        else:
            network = copy.deepcopy(self.network)
            network.load_state_dict(self._best_weights)
        for name, tensor in network.state_dict().items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                since = next((row["epoch"] for row in self.history if not _is_finite(row)), None)
                when = "" if since is None else f"; the values of epoch {since} were the first that were not finite"
                _LOGGER.error(
                    "the trained network is not finite: %s%s. NaNGuard stops such a training, leaves the step out, or "
                    "goes back",
                    name,
                    when,
                )
                break
        return network.eval()

    # State --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State from which the run can be resumed exactly: tensors and plain Python values."""
        return {
            "format_version": FORMAT_VERSION,
            "circumstances": run_environment(self),
            "epoch": self.start_epoch - 1,
            "batch_index": self.batch_index,
            "step": self.step,
            "iteration": self.batch_index,  # key used to find checkpoints
            "global_iter_num": self.step,
            "means": self._means.state_dict() if self.batch_index else None,
            "fold": self.fold,
            "seed": self.seed,
            "run_id": self.run_id,
            "model": describe_network(self.network),
            "network": dict(self.network.state_dict()),
            "criterions": {name: dict(f.state_dict()) for name, f in self._modules_of_losses().items()},
            "gradients": self._waiting_gradients(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "precision": self.precision.state_dict(),
            "best": self.best.state_dict(),
            "best_weights": self._best_weights,
            "callbacks": self._callbacks.state_dict(),
            "history": copy.deepcopy(self.history),
            "metrics_val": dict(self.metrics_val),
        }

    def _modules_of_losses(self) -> dict[str, nn.Module]:
        """Criterions with weights that are trained."""
        modules = {name: f for name, f in self.criterions.items() if isinstance(f, nn.Module)}
        return {name: module for name, module in modules.items() if any(p.requires_grad for p in module.parameters())}

    def _waiting_gradients(self) -> dict[str, Tensor]:
        """Gradients by parameter, which a custom step or optimizer may accumulate over several iterations."""
        resets = all(getattr(o.zero_grad, "__func__", None) is Optimizer.zero_grad for o in self.optimizers.values())
        if not self._has_own_closure and resets:  # the step of the package resets them first
            return {}
        return {name: p.grad for name, p in self.network.named_parameters() if p.grad is not None}

    def save_state(self, file_name: Path, epoch: int | None = None, **kwargs: Any) -> None:
        """Write the state of the run to a file.

        Parameters
        ----------
        file_name : str or path
            Path of the file.
        epoch : int, optional
            Number of the last finished epoch; that of the trainer by default.
        **kwargs : dict
            Further entries of the file: tensors and plain Python values.

        Raises
        ------
        CheckpointError
            If the file cannot be written. An existing file stays unchanged.
        """
        state = self.state_dict()
        if epoch is not None:
            state["epoch"] = epoch
        refuse = state.keys() & kwargs.keys()
        if refuse:
            raise ConfigError(f"{sorted(refuse)} are entries of every checkpoint: choose other names")
        self.ranks.on_main(self._write_state, {**state, **kwargs}, file_name)

    @staticmethod
    def load_state(file_name: Path, **kwargs: Any) -> dict[str, Any]:
        """Read the state of a run from a file. No code in the file is executed.

        Raises
        ------
        CheckpointError
            If the file is not a readable checkpoint of a run.
        """
        state = load_checkpoint(file_name)
        if "format_version" not in state:
            raise CheckpointError(f"{file_name} holds no state of a run: it has no format_version")
        if state["format_version"] > FORMAT_VERSION:
            raise CheckpointError(
                f"{file_name} has format {state['format_version']}, this version reads up to {FORMAT_VERSION}: "
                f"it was written by delira_nca {state.get('circumstances', {}).get('delira_nca')}"
            )
        return state

    @contextmanager
    def _claim_folder(self) -> Iterator[None]:
        """Lock the checkpoint folder, and reserve the random generators of this process for one thread."""
        self._lock = None if self.save_path is None else RunLock(self.save_path)
        holding = nullcontext() if self._lock is None else self.ranks.holding(self._lock)
        with only_thread(f"the training of run {self.run_id}"), holding:
            try:
                yield
            finally:
                self._lock = None

    def _write_state(self, state: Mapping[str, Any], file_name: str | Path) -> None:
        """Write a checkpoint, unless another process has locked the folder in the meantime."""
        lock = self._lock
        if lock is not None and not lock.is_held and absolute(file_name).parent == lock.path.parent:
            raise RunLockedError(f"{file_name} is not written: another process has taken the folder of this run")
        save_checkpoint(state, file_name)

    def _resume(self, resume: Path) -> None:
        """Load the newest intact checkpoint, or the given one, and log where the run resumes."""
        plan = self.ranks.on_main(self._plan_resume, resume)
        passed_over = resume != "never" and plan.skipped
        if resume != "never" or plan.skipped:
            _LOGGER.log(logging.WARNING if passed_over else logging.INFO, "%s", plan)
        if plan.path is None:
            return
        state = self.load_state(plan.path)
        self._update_state(state)
        if changed := changes(state.get("circumstances", {}), run_environment(self)):
            _LOGGER.warning("the run may not continue bit for bit: %s", "; ".join(changed))
        if self.save_path is not None and plan.path.parent.resolve() == self.save_path.resolve():
            manifest = Manifest(self.save_path, self.run_id)
            self.ranks.on_main(manifest.add, plan.path, epoch=plan.epoch, iteration=plan.iteration)

    def _plan_resume(self, resume: Path) -> ResumePlan:
        if self.save_path is not None:
            for folder in (self.save_path, *([self.save_path.parent] if self.save_path.name == "checkpoints" else [])):
                sweep(folder)
        return plan_resume(resume, self.save_path)

    def _update_state(self, new_state: Mapping[str, Any] | None) -> PyTorchNetworkTrainer:
        """Load a state from a file, or set the given state attributes.

        Raises
        ------
        CheckpointError
            If a saved state does not fit this trainer, which stays unchanged then.
        StateKeyError
            For a key that is not in ``STATE_KEYS``.
        """
        if not new_state or "format_version" not in new_state:
            if new_state and new_state.keys() & {"criterions", "metrics"}:
                criterions = new_state.get("criterions", self.criterions)
                check_value_names(criterions, new_state.get("metrics", self.metrics), self.optimizers)
                self._checked.clear()
            super()._update_state(new_state)
            return self
        validate_state(new_state, self.network, self.optimizers, self._modules_of_losses())
        run_id = new_state.get("run_id", self.run_id)
        self._callbacks.begin_run(run_id)
        self._callbacks.load_state_dict(new_state["callbacks"])  # first: a callback may reject its state
        self.network.load_state_dict(new_state["network"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(new_state["optimizers"][name]))  # torch does not copy the tensors
        for name, module in self._modules_of_losses().items():
            if name in new_state.get("criterions", {}):
                module.load_state_dict(new_state["criterions"][name])
        gradients = new_state.get("gradients", {})
        for name, parameter in self.network.named_parameters():
            parameter.grad = gradients[name].clone().to(parameter) if name in gradients else None
        self.precision.load_state_dict(new_state["precision"])
        self.best.load_state_dict(new_state["best"])
        self._best_weights = new_state["best_weights"]
        self.history = copy.deepcopy(list(new_state["history"]))
        self.metrics_val = dict(new_state["metrics_val"])
        self.start_epoch, self.step = new_state["epoch"] + 1, new_state.get("step", new_state.get("global_iter_num"))
        self.batch_index = new_state.get("batch_index", new_state.get("iteration", 0))
        self._begun_means = new_state.get("means")
        self.fold, self.seed = new_state["fold"], new_state["seed"]
        self.run_id = run_id
        return self

    def computation(self) -> dict[str, str]:
        """Back end, processor and instruction set; see :func:`delira_nca.training.run_environment.computation`."""
        return computation(self)

    def describe(self) -> str:
        """Text that describes the network, the device, the functions, and the callbacks at each hook, in order."""
        network = type(self.network).__name__
        weights = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        optimizers = ", ".join(f"{name}: {type(o).__name__}" for name, o in self.optimizers.items())
        processes = "" if self.ranks.is_alone else f", in each of {self.ranks.size} processes"
        found = self.computation()
        lines = [
            super().describe(),
            f"  network            {network}, {weights} weights, on {self.device}{processes}",
            f"  back end           {found.get('backend', '-')}",
            f"  processor          {found['processor']}, {found['instruction_set']}",
            f"  optimizers         {optimizers}",
            f"  criterions         {', '.join(self.criterions) or 'the loss of the network'}",
            f"  metrics            {', '.join(self.metrics) or '-'}",
        ]
        checkpoints = [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]
        lines += [f"  checkpoints        {callback.describe(self)}" for callback in checkpoints]
        return "\n".join(lines)


def _own_loss_names(network: Any) -> list[str]:
    """Names of the losses that a network declares for itself."""
    return [name for name in declared_loss_names(network) or () if name != "total"]


def _checked_result(returned: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Check what a closure has returned."""
    if not isinstance(returned, (tuple, list)) or len(returned) != 3:
        found = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else repr(returned)
        raise ConfigError(f"closure has to return metrics, losses and prediction, not {found}")
    for what, values in zip(("metrics", "losses"), returned, strict=False):
        if not isinstance(values, Mapping):
            raise ConfigError(f"closure has to return {what} as a dict of name to number, not {values!r:.80}")
    return dict(returned[0]), dict(returned[1]), returned[2]


def _copied(value: Any) -> Any:
    """Copy of an entry of a state dict on the CPU; extra states are other values than tensors."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _is_finite(row: Mapping[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, (int, float)))


def _argument_names(trainer_cls: type[PyTorchNetworkTrainer]) -> set[str]:
    names = set()
    for owner in (trainer_cls, PyTorchNetworkTrainer):
        parameters = inspect.signature(owner.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return names - {"self"}
