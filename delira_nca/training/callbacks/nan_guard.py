"""A guard against values that are not finite, and the snapshots for its rollbacks."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import NonFiniteError, require_choice
from delira_nca.training.callbacks.abstract_callback import Trainer, keyed
from delira_nca.training.callbacks.optimization import GradientCallback, LRSchedulerCallback, WeightAverage
from delira_nca.training.callbacks.pool_update import PoolUpdate
from delira_nca.training.distributed.context import context_of

__all__ = ["NaNGuard", "restore_snapshot", "scale_learning_rates", "take_snapshot"]

_LOGGER = logging.getLogger("delira_nca")
_END_OF_ITERATION, _END_OF_EPOCH = "end of iteration", "end of epoch"


class NaNGuard(GradientCallback):
    """Detect NaN and infinite values, and raise an error, skip the step or roll back.

    Checked are the input (``data`` of the batch, as passed to the network) and all gradients before an optimizer step,
    the losses, metrics and states (``output_image`` of the prediction) of every iteration, and the values of every
    epoch. With any policy, an optimizer step with an input or gradient that is not finite is never taken. Register the
    guard first, so that it runs before callbacks that change gradients, pools or averages, or that save.

    Parameters
    ----------
    policy : str
        ``"raise"``, ``"skip"`` or ``"rollback"``; see the notes.
    every : int
        Number of iterations between two snapshots. Also the number of consecutive finite iterations that resets the
        count of rollbacks, and of consecutive skipped iterations after which ``"skip"`` raises an error.
    lr_factor : float
        Factor by which learning rates are multiplied at each rollback.
    max_rollbacks : int
        Maximum number of consecutive rollbacks with fewer than ``every`` finite iterations between them.

    Attributes
    ----------
    num_events : int
        Number of training iterations, validations and epochs with values that were not finite, without an error.
    num_rollbacks : int
        Number of rollbacks.

    Raises
    ------
    NonFiniteError
        From the training, with the iteration and the first tensor or value that is not finite.

    Notes
    -----
    ``"raise"`` ends the training with an error; the weights are those before the step.

    ``"skip"`` skips the step: weights, buffers and momentum do not change, and no weight decay is applied. States that
    are not finite are never written to a pool, see :class:`~delira_nca.training.callbacks.PoolUpdate`. If the loss is
    not finite but all gradients are, the step has been taken.

    ``"rollback"`` skips the step and, at the end of the iteration (for a validation or an epoch: before its
    checkpoint), restores the last snapshot: weights and buffers, moments of the optimizers, states and losses of pools,
    averages of weights, and the state of other callbacks, unless their ``rolls_back`` is False. It then multiplies the
    learning rates. Counters of iterations and epochs, history, best score, schedules, early stopping, the gradient
    scaler and the number of draws from a pool are not restored, so that the next batch, fire masks and draws differ
    from those that failed. Snapshots are taken before the first iteration, and before every iteration with a number
    divisible by ``every``, if all weights are finite. Checkpoints contain them, so that a resumed run rolls back to the
    same snapshot as an uninterrupted one.

    Metrics are not minimised and do not show that the run has failed: except with ``"raise"``, a metric that is not
    finite is only logged, once per epoch. Every other event is logged as a warning. Measured values are not removed:
    the mean loss of an epoch with a NaN loss is NaN, and such an epoch is never the best one. A gradient scaler itself
    skips steps if scaled gradients overflow; these do not count as events.

    Examples
    --------
    >>> NaNGuard("rollback", every=100)
    NaNGuard(policy='rollback', every=100, lr_factor=0.5, max_rollbacks=3, num_events=0, num_rollbacks=0)
    """

    rolls_back = False

    def __init__(
        self, policy: str = "raise", *, every: int = 50, lr_factor: float = 0.5, max_rollbacks: int = 3
    ) -> None:
        super().__init__()
        require_choice("policy", policy, ("raise", "skip", "rollback"))
        for name, number in (("every", every), ("max_rollbacks", max_rollbacks)):
            require_whole(name, number, 1)
        require_number("lr_factor", lr_factor, most=1, above=0)
        self.policy, self.every, self.lr_factor, self.max_rollbacks = policy, every, lr_factor, max_rollbacks
        self.num_events = self.num_rollbacks = 0
        self._in_a_row = self._num_finite = 0
        self._pending, self._event = "", ""
        self._snapshot: dict[str, Any] | None = None
        self._explained: set[str] = set()
        self._where, self._found = "", ""
        self._seen: frozenset[str] = frozenset()
        self._seen_state = (0, 0)
        self._batch: Mapping[str, Any] = {}
        self._buffers: list[Tensor] = []

    def at_iter_begin(
        self,
        trainer: Trainer,
        *,
        train: bool,
        iter_num: int,
        curr_epoch: int,
        global_iter_num: int,
        data_dict: Mapping[str, Any],
        **event: Any,
    ) -> None:
        """Perform a pending rollback, and store what the policy needs to skip or roll back this iteration."""
        self._where = f"iteration {iter_num} of epoch {curr_epoch}"
        self._found, self._batch, self._seen = "", data_dict, frozenset()
        if self._pending and train:  # an error has prevented the rollback before
            self._go_back(trainer)
        if self.policy == "rollback" and train and (self._snapshot is None or global_iter_num % self.every == 0):
            self._take_snapshot(trainer)
        if self.policy == "skip" and train:
            self._buffers = [buffer.detach().clone() for buffer in trainer.network.buffers()]

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Check the input and all gradients, and prevent the step if one of them is not finite."""
        if not self._found:
            if self._all_finite(trainer, parameters):
                return
            # a back end may skip dead cells, and a NaN in them: gradients alone do not show it
            batch = getattr(trainer, "current_batch", {})
            self._found = context_of(trainer).first_nonempty(_bad_state(batch.get("data"), "input"))
            if self._found and self.policy == "raise":
                raise NonFiniteError(f"{self._found} in {self._where}; no weight was changed{self._cause()}")
        if not self._found:
            names = {id(p): name for name, p in trainer.network.named_parameters()}
            bad = _first_bad((names.get(id(p), "a parameter"), p.grad) for p in parameters)
            if not bad:  # only a sum has overflowed
                return
            self._found = f"the gradient of {bad} is not finite"
            if self.policy == "raise":
                raise NonFiniteError(f"{self._found} in {self._where}; no weight was changed{self._cause()}")
        for parameter in parameters:
            parameter.grad = None  # torch skips such a parameter, including momentum and weight decay

    def at_iter_end(
        self,
        trainer: Trainer,
        *,
        train: bool,
        metrics: Mapping[str, Any],
        data_dict: Mapping[str, Any],
        prediction: Any = None,
        **event: Any,
    ) -> None:
        """Check all losses, metrics and states, and apply the policy."""
        unseen = {name: value for name, value in metrics.items() if not (train and name in self._seen)}
        what = self._found or self._bad_value(trainer, unseen, self._where, "" if train else "val_")
        if not what and train and not self._has_seen(getattr(prediction, "output_image", None)):
            what = _bad_state(getattr(prediction, "output_image", None), "state")
            what = what or _bad_state(data_dict.get("data"), "input")  # cells with a NaN may have died
            what = context_of(trainer).first_nonempty(what)
        self._seen = frozenset()
        if what:
            self._handle(trainer, what, self._where, "train" if train else "val")
        elif train:
            self._num_finite += 1
            if self.policy == "skip" or self._num_finite >= self.every:
                self._in_a_row = 0
        self._batch, self._buffers = {}, []

    def at_iter_done(self, trainer: Trainer, **event: Any) -> None:
        """Perform a pending rollback after ``at_iter_end`` of all callbacks."""
        if self._pending == _END_OF_ITERATION:
            self._go_back(trainer)

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, Any], curr_epoch: int, **event: Any) -> None:
        """Check the values of the epoch that were not reported for an iteration."""
        phase = {name: "val" if name.startswith("val_") else "train" for name in val_metrics}
        values = {name: value for name, value in val_metrics.items() if not {name, phase[name]} & self._explained}
        if what := self._bad_value(trainer, values, f"epoch {curr_epoch}"):
            self._handle(trainer, what, f"epoch {curr_epoch}", "epoch")

    def at_checkpoint(self, trainer: Trainer, **event: Any) -> None:
        """Perform a pending rollback before the state is saved, and drop a snapshot that is due to be replaced."""
        is_due = self.policy == "rollback" and trainer.step % self.every == 0
        if is_due and not self._pending and (bad := _first_bad(trainer.network.state_dict().items())):
            self._plan_rollback(f"{bad} is not finite after {self._where}", _END_OF_EPOCH)
        if self._pending:
            self._go_back(trainer)
        if is_due:
            self._snapshot = None
        self._explained = set()

    def _handle(self, trainer: Trainer, what: str, where: str, phase: str) -> None:
        """Apply the policy to a value that is not finite; outside of training once per epoch."""
        if self.policy == "raise":
            raise NonFiniteError(f"{what} in {where}{self._cause()}")
        if phase != "train" and phase in self._explained:
            return
        self._explained.add(phase)
        self.num_events += 1
        if self.policy == "rollback":
            self._plan_rollback(f"{what} in {where}", _END_OF_ITERATION if phase == "train" else _END_OF_EPOCH)
            return
        done = "the step is left out" if self._found else "no gradient was seen that is not finite"
        _LOGGER.warning("%s in %s; %s%s", what, where, done if phase == "train" else "the run continues", self._cause())
        if phase == "train":
            self._leave_out(trainer, f"{what} in {where}")

    def _leave_out(self, trainer: Trainer, event: str) -> None:
        with torch.no_grad():
            for buffer, before in zip(trainer.network.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
        self._in_a_row += 1
        if self._in_a_row >= self.every:
            raise NonFiniteError(f"{event}, and so it was in {self._in_a_row} iterations in a row{self._cause()}")

    def _take_snapshot(self, trainer: Trainer) -> None:
        if bad := _first_bad(trainer.network.state_dict().items()):
            self._plan_rollback(f"{bad} is not finite before {self._where}", _END_OF_ITERATION)
            self._go_back(trainer)
        else:
            self._snapshot = take_snapshot(trainer)

    def _plan_rollback(self, event: str, when: str) -> None:
        if self._pending:
            return
        if self._snapshot is None:
            raise NonFiniteError(f"{event}, and there is no snapshot to go back to{self._cause()}")
        if self._in_a_row >= self.max_rollbacks:
            raise NonFiniteError(
                f"{event}, after {self._in_a_row} rollbacks without {self.every} finite iterations in between"
                f"{self._cause()}"
            )
        self._in_a_row, self._num_finite = self._in_a_row + 1, 0
        self._pending, self._event = when, event + self._cause()

    def _go_back(self, trainer: Trainer) -> None:
        if self._snapshot is not None:
            restore_snapshot(trainer, self._snapshot)
            scale_learning_rates(trainer, self.lr_factor)
            self.num_rollbacks += 1
            told = (self._event, self.lr_factor, self._in_a_row, self.max_rollbacks)
            _LOGGER.warning("%s; back to the last snapshot, learning rates times %g (rollback %d of %d)", *told)
        self._pending = self._event = ""

    def _all_finite(self, trainer: Trainer, parameters: list[nn.Parameter]) -> bool:
        """Whether input, losses, states and gradients are finite, with a single synchronisation before the step.

        Only the sum of each tensor is checked; since a sum may overflow, tensors are checked one by one if one is not
        finite. In a distributed training, each rank has only a part, and tensors are always checked one by one.
        """
        if not context_of(trainer).is_alone:
            return False
        losses = getattr(trainer, "current_losses", {})
        states = (
            getattr(trainer, "current_batch", {}).get("data"),
            getattr(getattr(trainer, "current_prediction", None), "output_image", None),
        )
        tensors = [*losses.values(), *states, *(p.grad for p in parameters)]
        sums = [t.detach().sum().float() for t in tensors if isinstance(t, Tensor)]
        if sums and not bool(torch.stack(sums).isfinite().all()):
            return False
        if losses and isinstance(states[0], Tensor) and isinstance(states[1], Tensor):
            self._seen, self._seen_state = frozenset(losses), (states[1].data_ptr(), states[1]._version)
        return True

    def _has_seen(self, state: Any) -> bool:
        """Whether a state was checked before the step and has not been changed since."""
        return bool(self._seen) and isinstance(state, Tensor) and (state.data_ptr(), state._version) == self._seen_state

    def _bad_value(self, trainer: Trainer, values: Mapping[str, Any], where: str, prefix: str = "") -> str:
        """Text of the first value that is not finite; metrics are only logged, unless the policy is ``"raise"``."""
        for name, value in values.items():
            tensor = torch.as_tensor(value)
            if bool(tensor.isfinite().all()):
                continue
            what = f"{name} is {float(tensor)}" if tensor.numel() == 1 else f"{name} is not finite"
            if self.policy == "raise" or name.removeprefix("val_") not in getattr(trainer, "metrics", ()):
                return what
            if prefix + name not in self._explained:
                self._explained.add(prefix + name)
                _LOGGER.warning("%s in %s; it is not minimised, and the run continues", what, where)
        return ""

    def _cause(self) -> str:
        """End of a message: the entry of the batch that is not finite, if any."""
        arrays = {k: v for k, v in self._batch.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        bad = _first_bad({**self._batch, **{k: torch.from_numpy(v) for k, v in arrays.items()}}.items())
        return f"; the batch's {bad!r} is not finite either" if bad else ""

    def state_dict(self) -> dict[str, Any]:
        """Counts and the snapshot; empty if the policy is ``"raise"``."""
        if self.policy == "raise":
            return {}
        return {
            "num_events": self.num_events,
            "num_rollbacks": self.num_rollbacks,
            "in_a_row": self._in_a_row,
            "num_finite": self._num_finite,
            "pending": self._pending,
            "event": self._event,
            "explained": sorted(self._explained),
            "snapshot": self._snapshot,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; a state of another policy is ignored."""
        if self.policy == "raise" or not state:
            return
        self.num_events, self.num_rollbacks = state["num_events"], state["num_rollbacks"]
        self._in_a_row, self._num_finite = state["in_a_row"], state["num_finite"]
        self._pending, self._event = state["pending"], state["event"]
        self._explained, self._snapshot = set(state["explained"]), state["snapshot"]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_batch": {}, "_buffers": []}


def _first_bad(named: Iterable[tuple[str, Any]]) -> str:
    """Name of the first tensor with a NaN or infinite value, or an empty text."""
    for name, tensor in named:
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            return name
    return ""


def _bad_state(states: Any, name: str) -> str:
    """Text with the first sample of the states (B, ...) that is not finite; empty if all are, or without states."""
    if not isinstance(states, Tensor) or bool(states.sum().isfinite()):
        return ""
    bad = (~states.isfinite()).flatten(1).any(1).nonzero()
    return f"the {name} of sample {int(bad[0])} is not finite" if len(bad) else ""  # empty: only the sum has overflowed


_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
"""Entries of a parameter group from which a scheduler computes learning rates."""
_BASES = ("base_lrs", "max_lrs")
"""Attributes of a scheduler from which it computes learning rates."""


def take_snapshot(trainer: Trainer) -> dict[str, Any]:
    """Copy the learned state of a training: weights, buffers, moments of the optimizers, states of callbacks.

    Not included are counters of iterations and epochs, the history, the best score, schedules and learning rates, the
    scale of a gradient scaler, and callbacks with ``rolls_back = False``. The copy shares no memory with the trainer.
    """
    return {
        "network": _copy(trainer.network.state_dict()),
        "optimizers": {name: _copy(optimizer.state_dict()["state"]) for name, optimizer in trainer.optimizers.items()},
        "callbacks": {key: _copy(state) for key, callback in _rolled_back(trainer) if (state := callback.state_dict())},
    }


def restore_snapshot(trainer: Trainer, snapshot: Mapping[str, Any]) -> None:
    """Restore a snapshot. State that is not part of it does not change.

    The number of draws from a pool, and the counts of dead and exploded states, are not restored, so that the same
    states are not drawn again. A callback without a state in the snapshot keeps its own.
    """
    trainer.network.load_state_dict(snapshot["network"])
    for name, optimizer in trainer.optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _copy(snapshot["optimizers"][name]), "param_groups": groups})
    for key, callback in _rolled_back(trainer):
        if key in snapshot["callbacks"]:
            _restore_callback(callback, _copy(snapshot["callbacks"][key]), trainer)


def _restore_callback(callback: Any, state: dict[str, Any], trainer: Trainer) -> None:
    if isinstance(callback, PoolUpdate):
        pool = callback.pool
        counts = {"num_draws": pool.num_draws, "num_dead": callback.num_dead, "num_exploded": callback.num_exploded}
        callback.load_state_dict({**state, **counts})
    elif isinstance(callback, WeightAverage):
        callback.load_state_dict(state)
        callback.at_training_begin(trainer)  # this loads the state
    else:
        callback.load_state_dict(state)


def _rolled_back(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    for key, callback in keyed(trainer.callbacks):
        if getattr(callback, "rolls_back", True) and hasattr(callback, "load_state_dict"):
            yield key, callback


def scale_learning_rates(trainer: Trainer, factor: float) -> None:
    """Multiply the learning rates of all optimizers, and the base rates of the schedulers."""
    for optimizer in trainer.optimizers.values():
        for group in optimizer.param_groups:
            group.update({key: group[key] * factor for key in _RATES if key in group})
    for callback in trainer.callbacks:
        if isinstance(callback, LRSchedulerCallback):
            for scheduler in callback._schedulers.values():
                _scale_bases(scheduler, factor)


def _scale_bases(scheduler: Any, factor: float) -> None:
    for name in _BASES:
        if hasattr(scheduler, name):
            setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])
    for part in getattr(scheduler, "_schedulers", ()):  # parts of a SequentialLR or ChainedScheduler
        _scale_bases(part, factor)


def _copy(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: _copy(value) for key, value in state.items()}
    return copy.deepcopy(state)
