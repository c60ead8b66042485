"""Callbacks for gradients, learning rates and averages of weights."""

from __future__ import annotations

import copy
import logging
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from delira_nca.checks import require_callable, require_number
from delira_nca.errors import ConfigError, require_choice
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = [
    "GradientCallback",
    "GradientClipping",
    "GradientNormalization",
    "LRSchedulerCallback",
    "WeightAverage",
    "validated_network",
    "warn_of_vanishing_rate",
]

_LOGGER = logging.getLogger("delira_nca")
_VANISHED, _EARLY, _MAX_EPOCHS = 1e-3, 0.15, 100_000


class WeightAverage(AbstractCallback):
    """Average the weights, and validate with the averaged weights.

    During validation, and so for the selection of the best epoch, the network has the averaged weights. Training
    continues with the original ones.

    Parameters
    ----------
    decay : float, optional
        Decay of the exponential moving average; None for the arithmetic mean of all weights.
    every : str
        Whether the average is updated after each ``"iteration"`` or each ``"epoch"``.
    start_epoch : int
        Number of the first epoch of the average.
    validate : bool
        Whether to validate with the averaged weights.

    Notes
    -----
    Based on ``torch.optim.swa_utils.AveragedModel``. In the ablations of OctreeNCA (2025), a decay of 0.99 improved the
    Dice score on the prostate by four points.
    """

    needs_torch = True

    def __init__(
        self, decay: float | None = 0.999, *, every: str = "iteration", start_epoch: int = 1, validate: bool = True
    ) -> None:
        if decay is not None:
            require_number("decay", decay, 0, below=1)
        require_choice("period of an average", every, ("iteration", "epoch"))
        self.decay, self.every, self.start_epoch, self.validate = decay, every, start_epoch, validate
        self._average: AveragedModel | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._own_weights: dict[str, Tensor] | None = None

    @property
    def network(self) -> nn.Module:
        """Network with the averaged weights.

        Raises
        ------
        ConfigError
            Before the first training.
        """
        if self._average is None:
            raise ConfigError("there is no average before the training has begun")
        network: nn.Module = self._average.module
        return network

    @property
    def has_begun(self) -> bool:
        """Whether the average contains any weights."""
        return self._average is not None and int(self._average.n_averaged) > 0

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Create the average, or load that of a checkpoint."""
        if self._average is None:
            average = get_swa_multi_avg_fn() if self.decay is None else get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(trainer.network, multi_avg_fn=average)
        if self._loaded is not None:
            self._average.load_state_dict(dict(self._loaded))
            self._loaded = None

    def _take_in(self, trainer: Trainer, epoch: int) -> None:
        if self._average is not None and epoch >= self.start_epoch:
            self._average.update_parameters(trainer.network)

    def at_iter_begin(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Set the averaged weights when validation starts."""
        if not train and self.validate and self._own_weights is None and self._average is not None:
            if int(self._average.n_averaged) == 0:
                return
            self._own_weights = {k: v.detach().clone() for k, v in trainer.network.state_dict().items()}
            trainer.network.load_state_dict(self._average.module.state_dict())

    def _give_back(self, trainer: Trainer) -> None:
        if self._own_weights is not None:
            trainer.network.load_state_dict(self._own_weights)
            self._own_weights = None

    def at_iter_end(self, trainer: Trainer, *, train: bool, curr_epoch: int, **event: Any) -> None:
        """Update the average after a training iteration."""
        if train and self.every == "iteration":
            self._take_in(trainer, curr_epoch)

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Restore the original weights, and update the average after an epoch."""
        self._give_back(trainer)
        if self.every == "epoch":
            self._take_in(trainer, curr_epoch)

    def at_exception(self, trainer: Trainer, **event: Any) -> None:
        """Restore the original weights."""
        self._give_back(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights, and the number of updates."""
        if self._loaded is not None:
            return dict(self._loaded)
        return {} if self._average is None else dict(self._average.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Store an average, which is loaded at the start of the next training."""
        self._average = None  # the shapes may be those of another network
        self._loaded = {k: torch.as_tensor(v).clone() for k, v in state.items()} or None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_average": None, "_loaded": self.state_dict() or None, "_own_weights": None}


def validated_network(trainer: Trainer) -> Any:
    """Network as it would be validated now: that of a WeightAverage with averaged weights, or that of the trainer.

    The training keeps changing it: copy the weights to keep them.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAverage) and callback.validate and callback.has_begun:
            return callback.network
    return trainer.network


def warn_of_vanishing_rate(scheduler: Any, optimizer: Optimizer, num_epochs: int | None, name: str) -> None:
    """Log a warning if the learning rate becomes negligible early in the training.

    That is, if all rates fall below a thousandth of the first one within the first 15 % of the epochs, and stay there.
    Schedules that need a score, or are stepped once per iteration, are not tested.

    Parameters
    ----------
    scheduler : object
        Scheduler that is stepped once per epoch. It is not changed.
    optimizer : Optimizer
        Optimizer of the scheduler.
    num_epochs : int or None
        Number of epochs of the training.
    name : str
        Argument that sets the schedule, for the message.
    """
    if num_epochs is None or isinstance(scheduler, ReduceLROnPlateau):
        return
    stand_in = _stand_in(optimizer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tried = copy.deepcopy(scheduler, {id(optimizer): stand_in})
            rates = []
            for _ in range(min(num_epochs, _MAX_EPOCHS)):
                rates.append(max(float(group["lr"]) for group in stand_in.param_groups))
                tried.step()
    except Exception:  # a scheduler that cannot be copied, or needs arguments
        return
    last = max((epoch for epoch, rate in enumerate(rates, start=1) if rate > _VANISHED * rates[0]), default=len(rates))
    if last < len(rates) and last < _EARLY * num_epochs:
        _LOGGER.warning(
            "%s: the learning rate falls from %.3g to less than a thousandth of it within %d of %d epochs, after which "
            "hardly anything is learned",
            *(name, rates[0], last, num_epochs),
        )


def _stand_in(optimizer: Optimizer) -> Optimizer:
    """Copy of an optimizer whose groups have one small weight each."""
    copied = copy.copy(optimizer)
    copied.param_groups = [
        {name: v.clone() if isinstance(v, Tensor) else v for name, v in group.items()}
        | {"params": [nn.Parameter(torch.zeros(1))]}
        for group in optimizer.param_groups
    ]
    return copied


class LRSchedulerCallback(AbstractCallback):
    """Step a torch scheduler for each optimizer.

    Parameters
    ----------
    scheduler_cls : object
        Class from ``torch.optim.lr_scheduler``, or a function of the optimizer that returns a scheduler.
    params : mapping, optional
        Keyword arguments of the scheduler.
    every : str
        Whether the scheduler steps once per ``"epoch"`` or per ``"iteration"``.
    monitor_key : str, optional
        Score passed to the scheduler, in epochs that measure it. For ``ReduceLROnPlateau``, the score that selects the
        best epoch, and its mode, by default.

    Raises
    ------
    ConfigError
        At the start of the training, if the class is not a scheduler, the parameters do not fit, or it has no state
        dict.

    Examples
    --------
    >>> from torch.optim.lr_scheduler import MultiStepLR
    >>> LRSchedulerCallback(MultiStepLR, {"milestones": [1000], "gamma": 0.3}, every="iteration")
    LRSchedulerCallback(MultiStepLR, every='iteration')
    """

    needs_torch = True

    rolls_back = False  # the schedule is not restored by a rollback

    argument: str | None = None
    """Argument that sets the schedule, for warnings; class and parameters of the scheduler by default."""

    def __init__(
        self,
        scheduler_cls: Any,
        params: Mapping[str, Any] | None = None,
        *,
        every: str = "epoch",
        monitor_key: str | None = None,
    ) -> None:
        require_callable("scheduler_cls", scheduler_cls)
        require_choice("period of a scheduler", every, ("epoch", "iteration"))
        self._is_plateau = isinstance(scheduler_cls, type) and issubclass(scheduler_cls, ReduceLROnPlateau)
        if (monitor_key is not None or self._is_plateau) and every == "iteration":
            raise ConfigError("a scheduler that follows a score steps once per epoch, not per iteration")
        self.scheduler_cls, self.params, self.every = scheduler_cls, dict(params or {}), every
        self.monitor_key, self._key = monitor_key, monitor_key
        self._direction: dict[str, str] = {}
        self._schedulers: dict[str, Any] = {}
        self._loaded: Mapping[str, Any] = {}

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int | None = None, **event: Any) -> None:
        """Create the schedulers, or load those of a checkpoint; schedulers of an earlier training are kept."""
        self._follow(trainer)
        for optimizer in trainer.optimizers.values():
            self._try(optimizer)
        of_this_trainer = all(
            getattr(scheduler, "optimizer", optimizer) is optimizer
            for name, scheduler in self._schedulers.items()
            for optimizer in [trainer.optimizers.get(name)]
        )
        if self._schedulers and of_this_trainer and not self._loaded:
            return
        for name, optimizer in trainer.optimizers.items():
            self._schedulers[name] = self._make(optimizer, self._loaded.get(name))
            if self.every == "epoch" and name not in self._loaded:
                argument = self.argument or f"{self._name} with {self.params}"
                warn_of_vanishing_rate(self._schedulers[name], optimizer, num_epochs, argument)
        self._loaded = {}

    def _try(self, optimizer: Optimizer) -> None:
        """Step a scheduler of a copy of an optimizer, so that unsuitable parameters raise before the training."""
        if not (isinstance(self.scheduler_cls, type) and issubclass(self.scheduler_cls, LRScheduler)):
            return
        stand_in = _stand_in(optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scheduler = self.scheduler_cls(stand_in, **{**self._direction, **self.params})
            except (TypeError, ValueError):  # reported when the scheduler is created
                return
            try:
                scheduler.step(*([0.0] if self._key is not None else []))  # type: ignore[arg-type]
            except Exception as error:
                raise ConfigError(f"{self._name} with {self.params} fails: {type(error).__name__}: {error}") from error

    def _follow(self, trainer: Trainer) -> None:
        self._key = self.monitor_key
        if self._key is None and self._is_plateau:
            self._key = trainer.best.key
            if self._key is None:
                raise ConfigError(f"{self._name} follows a score: give monitor_key, or the training a val_score_key")
            self._direction = {"mode": "max" if higher_is_better(trainer.best.mode) else "min"}
        if self._key is not None and (names := trainer.score_names()) is not None:
            find_score_key(self._key, names)

    def _make(self, optimizer: Optimizer, state: Mapping[str, Any] | None) -> Any:
        resumed = [{k: copy.deepcopy(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        try:
            scheduler = self.scheduler_cls(optimizer, **{**self._direction, **self.params})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"parameters {self.params} do not fit {self._name}: {error}") from error
        for method in ("step", "state_dict", "load_state_dict"):
            if not callable(getattr(scheduler, method, None)):
                raise ConfigError(
                    f"scheduler {self._name} has no {method}, without which no run resumes: derive it from "
                    "torch.optim.lr_scheduler.LRScheduler, or give it step, state_dict and load_state_dict"
                )
        if state is not None:
            scheduler.load_state_dict(dict(state))
            for group, values in zip(optimizer.param_groups, resumed, strict=True):
                group.update(values)  # the constructor of the scheduler has set the rates of its first step
        return scheduler

    def at_iter_end(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Step after a training iteration."""
        if train and self.every == "iteration":
            for scheduler in self._schedulers.values():
                scheduler.step()

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        """Step after an epoch."""
        if self.every != "epoch":
            return
        if self._key is None:
            for scheduler in self._schedulers.values():
                scheduler.step()
            return
        if (measured := trainer.measured_score(self._key, val_metrics)) is not None:
            for scheduler in self._schedulers.values():
                scheduler.step(measured[1])

    @property
    def _name(self) -> str:
        return str(getattr(self.scheduler_cls, "__name__", self.scheduler_cls))

    def state_dict(self) -> dict[str, Any]:
        """State of each scheduler, by the name of its optimizer."""
        if self._loaded:
            return {name: dict(state) for name, state in self._loaded.items()}
        return {name: scheduler.state_dict() for name, scheduler in self._schedulers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Store a state, which is loaded at the start of the next training."""
        self._schedulers, self._loaded = {}, dict(state)

    def __repr__(self) -> str:
        return f"LRSchedulerCallback({self._name}, every={self.every!r})"


class GradientCallback(AbstractCallback):
    """Base class of callbacks that read or change the unscaled gradients before each optimizer step.

    It registers step hooks of torch during a training. Several callbacks run in the order of registration.
    """

    needs_torch = True

    def __init__(self) -> None:
        self._handles: list[Any] = []

    @abstractmethod
    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Process the parameters of one optimizer that have gradients. Not called if there are none.

        If ``grad`` of a parameter is set to None, the step changes neither the parameter nor its momentum.
        """

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Register a hook before the step of every optimizer."""

        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if parameters:
                self.before_step(trainer, parameters)

        self._handles = [optimizer.register_step_pre_hook(hook) for optimizer in trainer.optimizers.values()]

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": []}


class GradientNormalization(GradientCallback):
    """Divide the gradient of each tensor by its norm, so that all iterations have equal influence.

    Parameters
    ----------
    eps : float
        Number added to the norm; a gradient of zero stays zero.

    Notes
    -----
    Mordvintsev et al. (2020): ``g / (norm(g) + 1e-8)`` per variable.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        require_number("eps", eps, above=0)
        self.eps = eps

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Normalise each gradient."""
        with torch.no_grad():
            gradients = [p.grad for p in parameters if p.grad is not None]
            norms = torch._foreach_norm(gradients)
            torch._foreach_add_(norms, self.eps)
            torch._foreach_div_(gradients, norms)


class GradientClipping(GradientCallback):
    """Clip the common norm of all gradients of an optimizer.

    Parameters
    ----------
    max_norm : float
        Maximum norm over all tensors.
    norm_type : float
        Order of the norm, 2 by default.
    """

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0) -> None:
        super().__init__()
        if not max_norm > 0:
            raise ConfigError(f"max_norm must be a number above 0, not {max_norm!r}")
        self.max_norm, self.norm_type = max_norm, norm_type

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Clip the gradients."""
        nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)
