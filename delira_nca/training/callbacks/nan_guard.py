"""A guard against numbers that are not finite, and the snapshots of a run that it goes back to."""

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
    """Do something about a NaN or an infinite value before it spoils the run.

    It looks at the input (``data`` of the batch, as the network gets it) and at every gradient before an optimizer's
    step, at the losses, metrics and states (``output_image`` of the prediction) of every iteration, and at the values
    of every epoch. Whatever the policy, an optimizer never steps on an input or a gradient that is not finite. Register
    it first, so that it is called before what changes gradients, pools and averages, and before what saves.

    Parameters
    ----------
    policy : str
        ``"raise"``, ``"skip"`` or ``"rollback"``; see the notes.
    every : int
        Iterations between two snapshots; also, how many finite ones in a row make rollbacks forgotten, and after
        how many bad ones in a row ``"skip"`` gives up.
    lr_factor : float
        What learning rates are multiplied by at each rollback.
    max_rollbacks : int
        So many may follow one another with less than ``every`` finite iterations between them.

    Attributes
    ----------
    num_events : int
        Iterations of training, validations and epochs with something that was not finite and not raised.
    num_rollbacks : int
        How often the run went back.

    Raises
    ------
    ConfigError, UnknownNameError
        For an unknown policy, or numbers that cannot work.
    NonFiniteError
        From the training: it names the iteration and the first tensor, or the value, that is not finite.

    Notes
    -----
    ``"raise"`` ends the training with the weights from before the step.

    ``"skip"`` leaves the step out: weights, buffers, momentum and weight decay stand still for this iteration. States
    that are not finite never enter a pool, see :class:`~delira_nca.training.callbacks.PoolUpdate`. Where the loss is
    not finite and yet all gradients are, the step has been taken.

    ``"rollback"`` leaves the step out and, when the iteration is done (for a validation or an epoch: before its
    checkpoint), puts the last snapshot back: weights and buffers, moments of the optimizers, states and losses of
    pools, averages of weights, and what else callbacks keep, unless their ``rolls_back`` is False. It then multiplies
    the learning rates. Time does not go back: counters of iterations and epochs, history, best score, schedules, early
    stopping, a gradient scaler and the number of draws from a pool go on, so that the next batch, fire masks and draws
    are others than those that failed. Snapshots are taken before the first iteration, and before every iteration whose
    number is a multiple of ``every``, if all weights are finite; they are in the checkpoints too, so that a resumed run
    goes back to where the run would have gone that was never ended.

    A metric that is not minimised says nothing about the state of the run: apart from ``"raise"``, it is logged once an
    epoch, and nothing else happens. Every other event is logged as a warning. What an iteration has measured stays
    measured: an epoch's mean over a loss that was NaN is NaN, and such an epoch is never the best by it. A gradient
    scaler leaves out the steps whose scaled gradients overflow by itself; these are no events.

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

    # Hooks --------------------------------------------------------------------------------------------------------

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
        """Go back, if it is time to, and keep what the policy needs to leave this iteration out."""
        self._where = f"iteration {iter_num} of epoch {curr_epoch}"
        self._found, self._batch, self._seen = "", data_dict, frozenset()
        if self._pending and train:  # the training has failed when it was about to
            self._go_back(trainer)
        if self.policy == "rollback" and train and (self._snapshot is None or global_iter_num % self.every == 0):
            self._take_snapshot(trainer)
        if self.policy == "skip" and train:
            self._buffers = [buffer.detach().clone() for buffer in trainer.network.buffers()]

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Look at the input and at every gradient, and let no step be taken on one that is not finite."""
        if not self._found:
            if self._all_finite(trainer, parameters):
                return
            # a back end may leave out cells that died, and a NaN with them: the gradients alone do not show it
            batch = getattr(trainer, "current_batch", {})
            self._found = context_of(trainer).first_nonempty(_bad_state(batch.get("data"), "input"))
            if self._found and self.policy == "raise":
                raise NonFiniteError(f"{self._found} in {self._where}; no weight was changed{self._cause()}")
        if not self._found:
            names = {id(p): name for name, p in trainer.network.named_parameters()}
            bad = _first_bad((names.get(id(p), "a parameter"), p.grad) for p in parameters)
            if not bad:  # a sum has overflowed
                return
            self._found = f"the gradient of {bad} is not finite"
            if self.policy == "raise":
                raise NonFiniteError(f"{self._found} in {self._where}; no weight was changed{self._cause()}")
        for parameter in parameters:
            parameter.grad = None  # torch leaves such a parameter alone, whatever its momentum and weight decay

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
        """Look at every loss, metric and state, and do what the policy says."""
        unseen = {name: value for name, value in metrics.items() if not (train and name in self._seen)}
        what = self._found or self._bad_value(trainer, unseen, self._where, "" if train else "val_")
        if not what and train and not self._has_seen(getattr(prediction, "output_image", None)):
            what = _bad_state(getattr(prediction, "output_image", None), "state")
            what = what or _bad_state(data_dict.get("data"), "input")  # its cells may have died without a trace
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
        """Go back, if it is time to, when every callback has seen the end of the iteration."""
        if self._pending == _END_OF_ITERATION:
            self._go_back(trainer)

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, Any], curr_epoch: int, **event: Any) -> None:
        """Look at the values of the epoch that none of its iterations accounts for."""
        phase = {name: "val" if name.startswith("val_") else "train" for name in val_metrics}
        values = {name: value for name, value in val_metrics.items() if not {name, phase[name]} & self._explained}
        if what := self._bad_value(trainer, values, f"epoch {curr_epoch}"):
            self._handle(trainer, what, f"epoch {curr_epoch}", "epoch")

    def at_checkpoint(self, trainer: Trainer, **event: Any) -> None:
        """Go back, if it is time to, before the state is saved; and drop a snapshot that would now be replaced."""
        is_due = self.policy == "rollback" and trainer.step % self.every == 0
        if is_due and not self._pending and (bad := _first_bad(trainer.network.state_dict().items())):
            self._plan_rollback(f"{bad} is not finite after {self._where}", _END_OF_EPOCH)
        if self._pending:
            self._go_back(trainer)
        if is_due:
            self._snapshot = None
        self._explained = set()

    # What is done -------------------------------------------------------------------------------------------------

    def _handle(self, trainer: Trainer, what: str, where: str, phase: str) -> None:
        """Do what the policy says about something that is not finite; once an epoch, if it is not in training."""
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
        _LOGGER.warning("%s in %s; %s%s", what, where, done if phase == "train" else "the run goes on", self._cause())
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

    # What is found ------------------------------------------------------------------------------------------------

    def _all_finite(self, trainer: Trainer, parameters: list[nn.Parameter]) -> bool:
        """Whether input, losses, states and gradients are finite: one question to the device, before the step.

        Sums stand for tensors, so a sum that overflows is looked at closely afterwards. In a training over several
        processes each asks about its own part, and all look closely.
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
        """Whether a state was looked at before the step, and no callback has changed it since."""
        return bool(self._seen) and isinstance(state, Tensor) and (state.data_ptr(), state._version) == self._seen_state

    def _bad_value(self, trainer: Trainer, values: Mapping[str, Any], where: str, prefix: str = "") -> str:
        """First value that is not finite; under a policy that goes on, metrics are told and passed over."""
        for name, value in values.items():
            tensor = torch.as_tensor(value)
            if bool(tensor.isfinite().all()):
                continue
            what = f"{name} is {float(tensor)}" if tensor.numel() == 1 else f"{name} is not finite"
            if self.policy == "raise" or name.removeprefix("val_") not in getattr(trainer, "metrics", ()):
                return what
            if prefix + name not in self._explained:
                self._explained.add(prefix + name)
                _LOGGER.warning("%s in %s; it is not minimised, and the run goes on", what, where)
        return ""

    def _cause(self) -> str:
        """End of a message: what was not finite before the network had seen it."""
        arrays = {k: v for k, v in self._batch.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        bad = _first_bad({**self._batch, **{k: torch.from_numpy(v) for k, v in arrays.items()}}.items())
        return f"; the batch's {bad!r} is not finite either" if bad else ""

    # State --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the snapshot; nothing where the policy is to raise."""
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
        """Take up a state; one of another policy leaves the guard as it is."""
        if self.policy == "raise" or not state:
            return
        self.num_events, self.num_rollbacks = state["num_events"], state["num_rollbacks"]
        self._in_a_row, self._num_finite = state["in_a_row"], state["num_finite"]
        self._pending, self._event = state["pending"], state["event"]
        self._explained, self._snapshot = set(state["explained"]), state["snapshot"]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_batch": {}, "_buffers": []}


def _first_bad(named: Iterable[tuple[str, Any]]) -> str:
    """Name of the first tensor with a NaN or an infinite value; empty if all are finite."""
    for name, tensor in named:
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            return name
    return ""


def _bad_state(states: Any, name: str) -> str:
    """Which of the states (B, ...) is the first that is not finite, in words; empty if all are, or there are none."""
    if not isinstance(states, Tensor) or bool(states.sum().isfinite()):
        return ""
    bad = (~states.isfinite()).flatten(1).any(1).nonzero()
    return f"the {name} of sample {int(bad[0])} is not finite" if len(bad) else ""  # else a sum has overflowed


_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
"""Entries of an optimizer's group that a schedule computes rates from."""
_BASES = ("base_lrs", "max_lrs")
"""Attributes of a scheduler that it computes rates from."""


def take_snapshot(trainer: Trainer) -> dict[str, Any]:
    """Copy what a training has learned: weights and buffers, moments of the optimizers, states of callbacks.

    Time is no part of it: counters of iterations and epochs, the history, the best score, schedules and learning
    rates, the scale of a gradient scaler, and callbacks whose ``rolls_back`` is False. The copy shares nothing with the
    trainer.
    """
    return {
        "network": _copy(trainer.network.state_dict()),
        "optimizers": {name: _copy(optimizer.state_dict()["state"]) for name, optimizer in trainer.optimizers.items()},
        "callbacks": {key: _copy(state) for key, callback in _rolled_back(trainer) if (state := callback.state_dict())},
    }


def restore_snapshot(trainer: Trainer, snapshot: Mapping[str, Any]) -> None:
    """Put a snapshot back; all that is no part of it stays as it is now.

    The number of draws from a pool counts on, and so do its dead and exploded states, so that the same states are not
    drawn again. A callback that has no state in the snapshot keeps its own.
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
        callback.at_training_begin(trainer)  # where it takes its state up
    else:
        callback.load_state_dict(state)


def _rolled_back(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    for key, callback in keyed(trainer.callbacks):
        if getattr(callback, "rolls_back", True) and hasattr(callback, "load_state_dict"):
            yield key, callback


def scale_learning_rates(trainer: Trainer, factor: float) -> None:
    """Multiply the learning rates of all optimizers, and those that an ``LRSchedulerCallback`` has yet to set."""
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
    for part in getattr(scheduler, "_schedulers", ()):  # of a SequentialLR or ChainedScheduler
        _scale_bases(part, factor)


def _copy(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: _copy(value) for key, value in state.items()}
    return copy.deepcopy(state)
