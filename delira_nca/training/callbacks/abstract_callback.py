"""The base class of callbacks: empty, documented hooks. Free of torch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from delira_nca.errors import CallbackError, did_you_mean

__all__ = ["HOOKS", "AbstractCallback", "bind_run", "rename_run"]

_LOGGER = logging.getLogger("delira_nca")

HOOKS: dict[str, frozenset[str]] = {
    "at_training_begin": frozenset({"num_epochs"}),
    "at_epoch_begin": frozenset({"val_metrics", "val_score_key", "curr_epoch", "num_epochs", "first_iter"}),
    "at_iter_begin": frozenset({"iter_num", "curr_epoch", "global_iter_num", "train", "data_dict"}),
    "at_iter_end": frozenset(
        {"iter_num", "curr_epoch", "global_iter_num", "train", "data_dict", "metrics", "prediction"}
    ),
    "at_iter_done": frozenset({"iter_num", "curr_epoch", "global_iter_num"}),
    "at_epoch_end": frozenset({"val_metrics", "val_score_key", "curr_epoch", "is_best"}),
    "at_checkpoint": frozenset({"val_metrics", "curr_epoch", "is_best"}),
    "at_training_end": frozenset({"exception"}),
    "at_exception": frozenset({"exception"}),
}
"""Every hook in the order in which they first run, and the keywords that it is called with."""

Returned = Mapping[str, Any] | None


class AbstractCallback:
    """A listener of a trainer. Override what you need; an overridden hook is called, an empty one costs nothing.

    A hook is called as ``hook(trainer, **event)`` with the keywords that it names (all of them, if it takes
    ``**event``). It returns ``None`` or a dict of trainer state to change; the allowed keys are the trainer's
    ``STATE_KEYS``. A method ``at_...`` that is no hook is refused when the class is made.

    The state, as :meth:`state_dict` gives it, belongs to one run. A callback that is used for a second run begins it
    with the state that it had before the first, so one object may serve all folds of a loop. Other attributes stay.

    Attributes
    ----------
    rolls_back : whether the state goes back with the weights where a run is rolled back, see
        :class:`~delira_nca.training.callbacks.NaNGuard`; of what counts time, or what was saved, it stays.
    runs_everywhere : whether every process of a training over several calls it; what writes or prints is called by the
        main one. What is called everywhere has to decide the same everywhere: losses and metrics are those of the
        whole batch, ``data_dict`` and ``prediction`` are the process's own part.

    Raises
    ------
    CallbackError
        When a subclass misspells a hook.

    Examples
    --------
    >>> class StopAtNoon(AbstractCallback):
    ...     def at_epoch_end(self, trainer, curr_epoch):
    ...         return {"stop_training": True} if curr_epoch == 12 else None
    """

    rolls_back = True
    runs_everywhere = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith(("at_", "on_")) and name not in HOOKS and callable(getattr(cls, name)):
                raise CallbackError(f"{cls.__name__}.{name} is no hook. {did_you_mean(name, HOOKS)}")

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint; a second callback of the same name gets ``#2`` behind it."""
        return type(self).__name__

    def at_training_begin(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run before the first epoch, after a resume: ``num_epochs``."""
        return None

    def at_epoch_begin(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run before an epoch.

        ``val_metrics`` (of the epoch before), ``val_score_key``, ``curr_epoch``, ``num_epochs``, and ``first_iter``:
        number of the first iteration, above 0 where a run goes on inside an epoch that it has begun before.
        """
        return None

    def at_iter_begin(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run before a batch is put on the device.

        ``data_dict``, ``iter_num``, ``curr_epoch``, ``global_iter_num``, ``train``.

        May also return ``{"data_dict": ...}``, which replaces the batch. ``iter_num`` counts from 0 within the epoch;
        in validation ``train`` is False and ``global_iter_num`` stands still.
        """
        return None

    def at_iter_end(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run after a batch: as before it, with ``metrics`` (losses and metrics) and ``prediction``, detached."""
        return None

    def at_iter_done(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run when an iteration of training is complete, counters and all: a state that is saved here can go on.

        ``iter_num``, ``curr_epoch``, ``global_iter_num``: of the iteration that is done.
        """
        return None

    def at_epoch_end(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run after validation and before the checkpoint, so that what changes here is in the file.

        ``val_metrics`` (all of the epoch; those of validation begin with ``val_``), ``val_score_key``,
        ``curr_epoch``, ``is_best``.
        """
        return None

    def at_checkpoint(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run when all callbacks have seen the epoch's end and the state is final.

        ``val_metrics``, ``curr_epoch``, ``is_best``.
        """
        return None

    def at_training_end(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run at last, always, also after an exception: ``exception``, None after a normal end."""
        return None

    def at_exception(self, trainer: Any, *args: Any, **event: Any) -> Returned:
        """Run when anything was raised between begin and end of a training: ``exception``."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold of this callback: plain Python and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str, bool))}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items() if not k.startswith('_'))})"


def bind_run(callback: Any, run_id: str, *, has_begun: bool = False) -> None:
    """Let a callback serve a run: reset its state if it is that of another run.

    Parameters
    ----------
    callback : object
        Object with ``state_dict`` and ``load_state_dict``.
    run_id : str
        Identifier of the run.
    has_begun : bool
        Whether the run has trained before, so that a reset would lose state.

    Raises
    ------
    CallbackError
        If the run has begun and the callback has served another one since.
    """
    name = type(callback).__name__
    known = getattr(callback, "__dict__", {}).get("_bound_run")
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
    try:
        callback.load_state_dict(copy.deepcopy(initial))
    except Exception as error:
        raise CallbackError(
            f"callback {name} cannot begin another run: load_state_dict does not take the state that state_dict gave "
            f"before the first ({type(error).__name__}: {error}). Give each trainer a callback of its own"
        ) from error
    _remember_run(callback, run_id, initial)
    _LOGGER.debug("callback %s begins another run with its initial state", name)


def rename_run(callback: Any, run_id: str) -> None:
    """Give the run that a callback serves another identifier."""
    if (bound := getattr(callback, "__dict__", {}).get("_bound_run")) is not None:
        _remember_run(callback, run_id, bound[1])


def _remember_run(callback: Any, run_id: str, initial: Any) -> None:
    try:
        object.__setattr__(callback, "_bound_run", (run_id, initial))  # also where a dataclass is frozen
    except AttributeError:  # it has __slots__
        name = type(callback).__name__
        raise CallbackError(
            f"callback {name} has a state, but no place to note the run that the state is of: add '__dict__' to its "
            "__slots__, or derive it from AbstractCallback"
        ) from None
