"""Trainer for networks in PyTorch."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delira_nca.assembly.assemble import AssembledLoss
from delira_nca.checks import plain_numbers
from delira_nca.errors import ConfigError
from delira_nca.io.network import describe_network
from delira_nca.models.compiled import unwrapped
from delira_nca.models.precision import Precision
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork, LossTerm
from delira_nca.rollout.backends import begin_run
from delira_nca.training.abstract_trainer import Path
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.optimization import LRSchedulerCallback
from delira_nca.training.callbacks.stopping import Duration
from delira_nca.training.distributed import find_context
from delira_nca.training.distributed.context import ProcessContext
from delira_nca.training.first_batch import checked
from delira_nca.training.memory_check import MemoryCheck
from delira_nca.training.network_trainer import Functions, NetworkTrainer, own_loss_names, refuse_unknown_arguments
from delira_nca.training.optimizers import OptimFn, create_optims_default_pytorch, make_optimizers, require_plain_steps
from delira_nca.training.run_environment import backends_of, choose_device, computation, run_environment, validate_state
from delira_nca.training.scores import check_value_names

__all__ = ["PyTorchNetworkTrainer"]

_LOGGER = logging.getLogger("delira_nca")


@plain_numbers
class PyTorchNetworkTrainer(NetworkTrainer):
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

    framework = "torch"
    network_class = AbstractPyTorchNetwork
    _nan_advice = ". NaNGuard stops such a training, leaves the step out, or goes back"

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
        refuse_unknown_arguments(self, kwargs, PyTorchNetworkTrainer)
        network = unwrapped(network)
        self.loss_terms: dict[str, LossTerm] = {}
        if isinstance(criterions, AssembledLoss):
            self.loss_terms = dict(criterions.terms)
            metrics = {**dict[str, Any](criterions.metrics()), **(metrics or {})}
            metric_keys = {**criterions.metric_keys(), **(metric_keys or {})}
            criterions = criterions.criterions()
        super().__init__(
            network,
            save_path,
            criterions,
            metrics,
            fold,
            callbacks,
            metric_keys=metric_keys,
            save_freq=save_freq,
            start_epoch=start_epoch,
            val_freq=val_freq,
            save_seconds=save_seconds,
            seed=seed,
        )
        self._device_argument = device
        self.current_batch: Mapping[str, Any] = {}
        self.current_prediction: Any = None
        self.current_losses: Mapping[str, Tensor] = {}
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
    def _check_network(network: Any) -> None:
        if not isinstance(network, nn.Module) or not all(hasattr(network, n) for n in ("closure", "prepare_batch")):
            raise ConfigError(f"network is a module with closure and prepare_batch, not {type(network).__name__}")

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
        losses = self.criterions or dict.fromkeys(own_loss_names(network))
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
        self._add_callbacks(
            None if lr_scheduler_cls is None else _scheduler(lr_scheduler_cls, lr_scheduler_params or {})
        )

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

    def _set_mode(self, *, train: bool) -> None:
        self.network.train(train)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(was_training)

    def _forward(self, data_dict: Mapping[str, Any], seed: int) -> Any:
        with torch.no_grad(), self.precision.autocast():
            return self.network.forward_batch(data_dict, seed=seed)[0]

    def _wrapped_functions(
        self, functions: Functions, *, what: str, is_first: bool, differentiated: bool, values: bool
    ) -> Functions:
        if not is_first:
            return functions
        return checked(functions, self.metric_keys, what=what, differentiated=differentiated, values=values)

    def _compute(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Check the memory of the first step, and show batch and prediction to the callbacks during the closure."""
        if train and type(self)._closure is NetworkTrainer._closure:
            self._memory_check(self.network, data_dict, self.precision)
        self.current_batch = dict(data_dict)
        returned = super()._compute(data_dict, iter_num, train=train)
        self.current_batch, self.current_prediction, self.current_losses = {}, None, {}
        return returned

    def _closure_options(self, *, train: bool) -> dict[str, Any]:
        terms = {"terms": self.loss_terms} if train and self.loss_terms else {}
        return {"precision": self.precision, "watch": self._watch, **terms}

    def _watch(self, prediction: Any, losses: Mapping[str, Tensor]) -> None:
        self.current_prediction, self.current_losses = prediction, losses

    def _at_training_begin(self, *, num_epochs: int | None = None) -> None:
        """Enable the log message about the back ends of this run, and dispatch ``at_training_begin``."""
        begin_run(self.run_id, quiet=not self.ranks.is_main)
        super()._at_training_begin(num_epochs=num_epochs)

    def _weights(self) -> dict[str, Any]:
        return {name: _copied(value) for name, value in self.network.state_dict().items()}

    def _with_weights(self, weights: Mapping[str, Any] | None) -> Any:
        network = self.network
        if weights is not None:
            network = copy.deepcopy(network)
            network.load_state_dict(weights)
        return network.eval()

    def _framework_state(self) -> dict[str, Any]:
        return {
            "model": describe_network(self.network),
            "network": dict(self.network.state_dict()),
            "criterions": {name: dict(f.state_dict()) for name, f in self._modules_of_losses().items()},
            "gradients": self._waiting_gradients(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "precision": self.precision.state_dict(),
        }

    def _check_framework_state(self, state: Mapping[str, Any]) -> None:
        validate_state(state, self.network, self.optimizers, self._modules_of_losses())

    def _load_framework_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))  # torch does not copy the tensors
        for name, module in self._modules_of_losses().items():
            if name in state.get("criterions", {}):
                module.load_state_dict(state["criterions"][name])
        gradients = state.get("gradients", {})
        for name, parameter in self.network.named_parameters():
            parameter.grad = gradients[name].clone().to(parameter) if name in gradients else None
        self.precision.load_state_dict(state["precision"])

    def _circumstances(self) -> dict[str, Any]:
        return run_environment(self)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rate of the first parameter group of each optimizer by name."""
        return {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in self.optimizers.items()}

    def map_learning_rates(self, function: Callable[[float], float]) -> None:
        """Replace the learning rate of each parameter group by a function of it."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = function(float(group["lr"]))

    def _describe_weights(self) -> str:
        weights = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        return f"{weights} weights, on {self.device}"

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

    def computation(self) -> dict[str, str]:
        """Back end, processor and instruction set; see :func:`delira_nca.training.run_environment.computation`."""
        return computation(self)


def _copied(value: Any) -> Any:
    """Copy of an entry of a state dict on the CPU; extra states are other values than tensors."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _scheduler(cls: type[Any], params: Mapping[str, Any]) -> AbstractCallback:
    is_callback = isinstance(cls, type) and issubclass(cls, AbstractCallback)
    return cls(**params) if is_callback else LRSchedulerCallback(cls, dict(params))
