"""Base class of callbacks with empty, documented hooks, and a callback made of functions. Does not import torch."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from delira_nca.checks import require_callable
from delira_nca.errors import CallbackError, did_you_mean
from delira_nca.training.distributed.context import AnyTrainer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from delira_nca.models.precision import Precision
    from delira_nca.models.pytorch_network import AbstractPyTorchNetwork, LossTerm

__all__ = [
    "HOOKS",
    "AbstractCallback",
    "LambdaCallback",
    "Returned",
    "Trainer",
    "bind_run",
    "keyed",
    "rename_run",
    "reset",
]

_LOGGER = logging.getLogger("delira_nca")

Returned = Mapping[str, Any] | None
"""Trainer state to change, or None."""


class Trainer(AnyTrainer, Protocol):
    """Attributes and methods of a :class:`~delira_nca.training.PyTorchNetworkTrainer` that callbacks may use."""

    network: AbstractPyTorchNetwork
    optimizers: dict[str, torch.optim.Optimizer]
    criterions: dict[str, Callable[..., Tensor]]
    metrics: dict[str, Callable[..., Tensor]]
    metric_keys: dict[str, tuple[str, ...]]
    loss_terms: dict[str, LossTerm]
    precision: Precision
    device: torch.device
    input_device: torch.device
    output_device: torch.device
    save_path: Path | None
    save_freq: int
    history: list[dict[str, Any]]
    metrics_val: dict[str, float]
    is_between_steps: bool
    current_batch: Mapping[str, Any]
    current_prediction: Any
    current_losses: Mapping[str, Tensor]

    def save_state(self, file_name: str | Path, epoch: int | None = None, **kwargs: Any) -> None:
        """Write the state of the run to a file."""

    def score_names(self) -> list[str] | None:
        """Names of all scores, or None if they are unknown before the first epoch."""

    def measured_score(self, key: str, metrics: Mapping[str, float]) -> tuple[str, float] | None:
        """Full name and value of a score, or None if it was not measured in this epoch."""

    @property
    def global_iter_num(self) -> int:
        """Number of training steps of the run."""

    @property
    def iteration(self) -> int:
        """Number of batches of the current epoch that are done."""

    def best_network(self) -> AbstractPyTorchNetwork:
        """Network with the weights of the best epoch."""

    def stop(self, reason: str, *, now: bool = False) -> None:
        """Stop the training after this epoch, or after this batch."""

    def learning_rates(self) -> dict[str, float]:
        """Current learning rate of each optimizer by name."""

    def map_learning_rates(self, function: Callable[[float], float]) -> None:
        """Replace each learning rate by a function of it."""

    def summary(self) -> dict[str, Any]:
        """Plain values of a training that has ended."""

    def computation(self) -> dict[str, str]:
        """Back end, processor and instruction set of the training."""


class AbstractCallback:
    """Base class of callbacks. Only hooks that a subclass overrides are called.

    A hook is called as ``hook(trainer, **event)`` with the keywords in its signature (all of them, if it accepts
    ``**event``). It returns ``None`` or a dict of trainer state to change; the allowed keys are the trainer's
    ``STATE_KEYS``. Defining a method ``at_...`` that is not a hook raises an error.

    The state returned by :meth:`state_dict` belongs to one run. If a callback is used for a second run, its state is
    reset to that before the first, so that one object can be used for all folds of a loop. Other attributes stay.

    Attributes
    ----------
    rolls_back : bool
        Whether the state is restored with the weights when a run is rolled back, see
        :class:`~delira_nca.training.callbacks.NaNGuard`. False for callbacks that measure time or count files.
    runs_everywhere : bool
        Whether the hooks are called in all ranks of a distributed training, or only in the main rank, as for callbacks
        that write or print. A callback that runs everywhere must make the same decisions in all ranks: losses and
        metrics are those of the whole batch, ``data_dict`` and ``prediction`` are the part of the rank.
    needs_torch : bool
        Whether the callback works on parameters, gradients or optimizers of PyTorch, so that trainers of other
        frameworks refuse it.

    Raises
    ------
    CallbackError
        If a subclass defines a method ``at_...`` or ``on_...`` that is not a hook.

    Examples
    --------
    >>> class StopAtNoon(AbstractCallback):
    ...     def at_epoch_end(self, trainer, curr_epoch):
    ...         return {"stop_training": True} if curr_epoch == 12 else None
    """

    rolls_back = True
    runs_everywhere = True
    needs_torch = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith(("at_", "on_")) and name not in HOOKS and callable(getattr(cls, name)):
                raise CallbackError(f"{cls.__name__}.{name} is not a hook. {did_you_mean(name, HOOKS)}")

    @property
    def state_owner(self) -> Any:
        """Object that holds the state, if the callback is a new wrapper for each training; the callback by default."""
        return self

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint; ``#2`` is appended for a second callback of the same name."""
        return type(self).__name__

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int) -> Returned:
        """Run before the first epoch, after a checkpoint has been loaded."""
        return None

    def at_epoch_begin(
        self,
        trainer: Trainer,
        *,
        val_metrics: Mapping[str, float],
        val_score_key: str | None,
        curr_epoch: int,
        num_epochs: int,
        first_iter: int,
    ) -> Returned:
        """Run before an epoch.

        ``val_metrics`` are those of the previous epoch. ``first_iter`` is the number of the first batch, above 0 if a
        run is resumed within an epoch.
        """
        return None

    def at_iter_begin(
        self,
        trainer: Trainer,
        *,
        iter_num: int,
        curr_epoch: int,
        global_iter_num: int,
        train: bool,
        data_dict: Mapping[str, Any],
    ) -> Returned:
        """Run before a batch is moved to the device.

        May also return ``{"data_dict": ...}``, which replaces the batch. ``iter_num`` counts from 0 within the epoch;
        ``global_iter_num`` is the trainer's ``step``, which does not change in validation, where ``train`` is False.
        """
        return None

    def at_iter_end(
        self,
        trainer: Trainer,
        *,
        iter_num: int,
        curr_epoch: int,
        global_iter_num: int,
        train: bool,
        data_dict: Mapping[str, Any],
        metrics: Mapping[str, Any],
        prediction: Any,
    ) -> Returned:
        """Run after a batch, with its losses and metrics, and the detached prediction."""
        return None

    def at_iter_done(self, trainer: Trainer, *, iter_num: int, curr_epoch: int, global_iter_num: int) -> Returned:
        """Run when a training step is complete and the counters are updated.

        A state saved here can be resumed only if the step was the last one of its batch, that is, if
        ``trainer.is_between_steps`` is True.
        """
        return None

    def at_epoch_end(
        self,
        trainer: Trainer,
        *,
        val_metrics: Mapping[str, float],
        val_score_key: str | None,
        curr_epoch: int,
        is_best: bool,
    ) -> Returned:
        """Run after validation and before the checkpoint, which contains changes made here.

        ``val_metrics`` are all values of the epoch; those of validation start with ``val_``.
        """
        return None

    def at_checkpoint(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, is_best: bool
    ) -> Returned:
        """Run after ``at_epoch_end`` of all callbacks, when the state of the epoch is final."""
        return None

    def at_training_end(self, trainer: Trainer, *, exception: BaseException | None) -> Returned:
        """Run at the end of the training, also after an exception."""
        return None

    def at_exception(self, trainer: Trainer, *, exception: BaseException) -> Returned:
        """Run when an exception was raised during the training."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: plain Python values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state returned by :meth:`state_dict`."""

    def console_commands(self) -> Mapping[str, Callable[[Trainer], Any]]:
        """Return commands for a `Console`: functions of the trainer, by name. The text of the result is the reply."""
        return {}

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str, bool))}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items() if not k.startswith('_'))})"


def _keywords(hook: Callable[..., Returned]) -> frozenset[str]:
    parameters = inspect.signature(hook).parameters.values()
    return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


HOOKS: dict[str, frozenset[str]] = {
    name: _keywords(hook) for name, hook in vars(AbstractCallback).items() if name.startswith("at_")
}
"""Keywords of each hook, in the order in which the hooks first run."""


def keyed(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield callbacks with a state, each with the name of its state in a checkpoint."""
    counts: dict[str, int] = {}
    for callback in callbacks:
        if hasattr(callback, "state_dict"):
            key = getattr(callback, "state_key", type(callback).__name__)
            counts[key] = counts.get(key, 0) + 1
            yield (key if counts[key] == 1 else f"{key}#{counts[key]}"), callback


def bind_run(callback: Any, run_id: str, *, has_begun: bool = False) -> None:
    """Assign a callback to a run. Its state is reset if it belongs to another run.

    If the run ``has_begun``, a reset would lose its state, so that an error is raised instead.
    """
    name = type(callback).__name__
    known = _bound_run(callback)
    if known is None:
        _remember_run(callback, run_id, copy.deepcopy(callback.state_dict()))
        return
    former, initial = known
    if former == run_id:
        return
    if has_begun and callback.state_dict():
        raise CallbackError(
            f"callback {name} has served another run since this one stopped, and holds the state of that run: resume "
            "this run from a checkpoint, or give each trainer a callback of its own"
        )
    _reset(callback, initial)
    _remember_run(callback, run_id, initial)
    _LOGGER.debug("callback %s begins another run with its initial state", name)


def reset(callback: Any) -> None:
    """Reset a callback to its state before its first run."""
    if (bound := _bound_run(callback)) is not None:
        _reset(callback, bound[1])


def _reset(callback: Any, initial: Any) -> None:
    try:
        callback.load_state_dict(copy.deepcopy(initial))
    except Exception as error:
        raise CallbackError(
            f"callback {type(callback).__name__} cannot begin another run: load_state_dict does not take the state "
            f"that state_dict gave before the first ({type(error).__name__}: {error}). Give each trainer a callback of "
            "its own"
        ) from error


def rename_run(callback: Any, run_id: str) -> None:
    """Change the identifier of the run to which a callback is assigned."""
    if (bound := _bound_run(callback)) is not None:
        _remember_run(callback, run_id, bound[1])


def _owner(callback: Any) -> Any:
    return callback.state_owner if isinstance(callback, AbstractCallback) else callback


def _bound_run(callback: Any) -> tuple[str, Any] | None:
    """Identifier of the run, and the state before the first run; None before the first run."""
    bound: tuple[str, Any] | None = getattr(_owner(callback), "__dict__", {}).get("_bound_run")
    return bound


def _remember_run(callback: Any, run_id: str, initial: Any) -> None:
    try:
        object.__setattr__(_owner(callback), "_bound_run", (run_id, initial))  # works for frozen dataclasses too
    except AttributeError:  # it has __slots__
        name = type(callback).__name__
        raise CallbackError(
            f"callback {name} has a state, but no place to note the run that the state is of: add '__dict__' to its "
            "__slots__, or derive it from AbstractCallback"
        ) from None


class LambdaCallback(AbstractCallback):
    """Callback made of functions.

    Parameters
    ----------
    **hooks : callable
        Functions ``(trainer, **event)`` by the name of the hook. A function gets the keywords in its signature.

    Examples
    --------
    >>> seen = []
    >>> callback = LambdaCallback(at_epoch_end=lambda trainer, curr_epoch: seen.append(curr_epoch))
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise CallbackError(f"{name!r} is not a hook. {did_you_mean(name, HOOKS)}")
            require_callable(name, function, error=CallbackError)
            setattr(self, name, function)
        self._hooks = sorted(hooks)

    def __repr__(self) -> str:
        return f"LambdaCallback({', '.join(self._hooks)})"
