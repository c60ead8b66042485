"""The training loop, independent of the backend: hooks, best epoch, history and stopping. Does not import torch."""

from __future__ import annotations

import logging
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from delira_nca.checks import accepted_keywords, is_whole, plain_numbers, require_whole
from delira_nca.errors import CallbackTypeError, ConfigError, StateKeyError, did_you_mean
from delira_nca.training.batches import check_source, each
from delira_nca.training.callbacks.abstract_callback import HOOKS
from delira_nca.training.dispatch import CallbackTable
from delira_nca.training.distributed.context import ALONE, ProcessContext
from delira_nca.training.interruption import Interruption
from delira_nca.training.scores import (
    BestScore,
    find_score_key,
    is_better,
    measured_score,
    plain_values,
    with_validation,
)

__all__ = ["AbstractNetworkTrainer"]

_LOGGER = logging.getLogger("delira_nca")
Path = str | os.PathLike[str]


class AbstractNetworkTrainer(ABC):
    """Base class of trainers: the epoch loop, the hooks and the state of a training run.

    Subclasses implement the abstract methods for one backend or training routine.

    Parameters
    ----------
    fold : int
        Number of the current fold, from 0.
    callbacks : sequence
        Callbacks, called in this order.

    Attributes
    ----------
    STATE_KEYS : frozenset of str
        Names of the state that a hook of a callback may change by returning it.
    history : list of dict
        One dict per epoch: ``{"epoch": 1, "loss": ..., "val_loss": ...}``.
    metrics_val : dict of str to float
        Metrics of the last epoch.
    best : BestScore
        Best score of this run, and its epoch.
    start_epoch : int
        Number of the next epoch, from 1.
    batch_index : int
        Number of finished batches of the current epoch: the position in its data. A routine may take any number of
        steps per batch.
    step : int
        Number of finished training steps of the run. A training step is one call of the closure with the optimizers.
    run_id : str
        Identifier of the run. A resumed run keeps it.
    ranks : ProcessContext
        Rank and communication of this process; see :mod:`delira_nca.training.distributed`.
    is_between_steps : bool
        Whether no batch is in progress, so that a state saved now can be resumed.
    on_requeue : callable, optional
        Function that is called after SIGUSR1 has ended a training and its state is saved;
        :func:`delira_nca.training.interruption.requeue_on_slurm` requeues the Slurm job.
    """

    STATE_KEYS: frozenset[str] = frozenset({"stop_training", "stop_now", "stop_reason", "val_freq", "extra"})

    def __init__(self, fold: int = 0, callbacks: Sequence[Any] = ()) -> None:
        self.fold, self.ranks = fold, self._find_context()
        self._callbacks = CallbackTable()
        if not isinstance(callbacks or (), Iterable):
            raise CallbackTypeError(f"callbacks are a list of callbacks, not {callbacks!r}")
        for callback in callbacks or ():
            self.register_callback(callback)
        self.best = BestScore()
        self.history: list[dict[str, Any]] = []
        self.metrics_val: dict[str, float] = {}
        self.start_epoch, self.batch_index, self.step = 1, 0, 0
        self.val_freq = 1
        self._validates = False
        self.stop_training = self.stop_now = False
        self.stop_reason: str | None = None
        self.extra: dict[str, Any] = {}
        self.on_requeue: Callable[[], Any] | None = None
        self.run_id = uuid.uuid4().hex
        self._failure: BaseException | None = None
        self.is_between_steps = True
        self._left_early = self._batch_is_out = False
        self._step_done: dict[str, int] | None = None

    @staticmethod
    def _find_context() -> ProcessContext:
        """Context of the processes that train together; a single process by default."""
        return ALONE

    @plain_numbers
    def train(
        self,
        num_epochs: int,
        datamgr_train: Any,
        datamgr_valid: Any = None,
        val_score_key: str | None = None,
        val_score_mode: str = "highest",
        *,
        val_freq: int | None = None,
        resume: Path = "never",
        on_interrupt: str = "raise",
    ) -> Any:
        """Train until the run has finished ``num_epochs`` epochs, counted from its first.

        SIGTERM, SIGUSR1 and the first Ctrl+C end the training after the current batch, once the state is saved. A
        second Ctrl+C ends it immediately. See :class:`delira_nca.training.interruption.Interruption`.

        Parameters
        ----------
        num_epochs : int
            Number of the last epoch. For 6, a run that has finished 3 epochs, here or before a resume, trains 3 more.
        datamgr_train, datamgr_valid : object
            Training and validation data: a data manager, or any iterable of batches that can be iterated in each epoch.
            The first validation batch is also read before the first epoch, to check it.
        val_score_key : str, optional
            Score that selects the best epoch: of validation if there are validation data, otherwise of training.
        val_score_mode : str
            Whether the ``"highest"`` or the ``"lowest"`` score is the best.
        val_freq : int, optional
            Validate in every n-th epoch; the value of the trainer by default. At most ``num_epochs``.
        resume : str or path
            ``"never"``; ``"auto"`` to resume from the newest intact checkpoint in the trainer's folder, or to start if
            there is none; or the path of a checkpoint or of a folder of checkpoints.
        on_interrupt : str
            Reaction to the first Ctrl+C: ``"raise"`` a KeyboardInterrupt, or ``"return"`` as after a normal end.

        Returns
        -------
        object
            The best network if ``val_score_key`` is given, otherwise the network of the last epoch.

        Raises
        ------
        ConfigError
            Before the first batch, for a number of epochs below 1, an unknown score or mode, or unsuitable data, or if
            another thread of this process is training.
        CheckpointError, RunLockedError
            Before the first batch, if checkpoints exist but none of them is intact and fits, or if another process is
            training in the trainer's folder.
        """
        self.is_between_steps, self._batch_is_out = True, False
        self._failure = self._step_done = None
        on_requeue = self.on_requeue if self.ranks.is_main else None
        interruption = Interruption(self._stop_for_signal, on_interrupt, on_requeue)
        self._callbacks.begin_run(self.run_id, has_begun=self.step > 0 and resume == "never")
        with self.ranks.training(self), self._claim_folder():
            self._resume(resume)
            self._check_train_arguments(
                num_epochs, datamgr_train, datamgr_valid, val_score_key, val_score_mode, val_freq
            )
            self.ranks.sync_start(self, num_epochs=num_epochs)
            self._callbacks.rename_run(self.run_id)
            with interruption:
                try:
                    _call(self._at_training_begin, num_epochs=num_epochs)
                    if datamgr_valid is not None:
                        self._check_validation(datamgr_valid)
                    self._run_epochs(num_epochs, datamgr_train, datamgr_valid, val_score_key)
                    interruption.received = self.ranks.first_nonempty(interruption.received)
                    interruption.conclude()
                except BaseException as error:
                    self.ranks.failed(error, everywhere=interruption.has_concluded)
                    self._failure = error
                    self._at_exception(error)
                    _call(self._at_training_end, exception=error)
                    raise
            return self._at_training_end()

    def _run_epochs(self, num_epochs: int, train: Any, valid: Any, val_score_key: str | None) -> None:
        """Train, validate and save one epoch after another, until the last one or a stop."""
        for epoch in range(self.start_epoch, num_epochs + 1):
            self._at_epoch_begin(self.metrics_val, val_score_key, epoch, num_epochs)
            begin = self.step, self.batch_index
            with closing(self._training_batches(train, epoch)) as batches:  # an error closes the workers
                returned = self._train_single_epoch(batches, epoch)
            self._finish_batch()  # a routine may stop before the batches are exhausted
            if self.step == begin[0]:  # a routine that does not count its steps, as in delira
                self.step += self.batch_index - begin[1]
            metrics = plain_values(self._values_of_epoch() if returned is None else returned, "_train_single_epoch")
            if self._left_early:
                return
            if validated := self._validates and epoch % self.val_freq == 0:
                self.is_between_steps = False
                with closing(self._validation_batches(valid, epoch)) as batches:
                    returned = self._validate_single_epoch(batches, epoch)
                self.is_between_steps = True
                values = plain_values(returned or {}, "_validate_single_epoch")
                validated, metrics = bool(values), with_validation(metrics, values)
            is_best = self.best.update(epoch, metrics, validated=validated or not self._validates)
            self._at_epoch_end(metrics, val_score_key, epoch, is_best)  # saves a checkpoint
            if self._should_stop():
                return

    def _training_batches(self, source: Any, epoch: int) -> Generator[Mapping[str, Any], None, None]:
        """Yield the remaining batches of an epoch until a stop; a batch is finished when the next one is requested."""
        batches = self.ranks.batches(self, source, epoch, self.batch_index)
        total = self.batch_index + len(batches) if isinstance(batches, Sized) else None
        with closing(each(batches)) as left:
            for batch in left:
                if self.stop_now:
                    self._left_early = True
                    return
                self._batch_is_out, self.is_between_steps = True, False
                yield batch
                self._finish_batch()
                if self.stop_now and total is not None:  # known without another batch
                    self._left_early = self.batch_index < total
                    return

    def _validation_batches(self, source: Any, epoch: int) -> Generator[Mapping[str, Any], None, None]:
        return each(self.ranks.batches(self, source, epoch))

    def _finish_batch(self) -> None:
        """Count the current batch as finished, so that a state saved from now on resumes after it."""
        self.batch_index += self._batch_is_out
        self._batch_is_out, self.is_between_steps = False, True
        self._dispatch_step_done()

    def _should_stop(self) -> bool:
        self.ranks.sync_stop(self)
        return self.stop_training or self.stop_now

    def _claim_folder(self) -> AbstractContextManager[Any]:
        """Context manager that locks the folder of the run during a training."""
        return nullcontext()

    def _resume(self, resume: Path) -> None:
        """Load the checkpoint selected by the argument ``resume`` of :meth:`train`."""
        if resume != "never":
            raise NotImplementedError(f"{type(self).__name__} reads no state: override _resume")

    def _check_train_arguments(
        self, num_epochs: int, train: Any, valid: Any, key: str | None, mode: str, val_freq: int | None
    ) -> None:
        require_whole("num_epochs", num_epochs, 1)
        for name, source in (("datamgr_train", train), ("datamgr_valid", valid)):
            if source is not None:
                every = 1 if name == "datamgr_train" else self.val_freq if val_freq is None else val_freq
                passes = (num_epochs - self.start_epoch + 1) // every if is_whole(every) and every > 0 else 1
                check_source(name, source, passes)
        if train is None:
            raise ConfigError("datamgr_train is a data manager or an iterable of batches, not None")
        val_freq = self.val_freq if val_freq is None else val_freq
        require_whole("val_freq", val_freq, 1)
        if valid is not None and val_freq > num_epochs:
            raise ConfigError(f"val_freq={val_freq} is more than num_epochs={num_epochs}: no epoch would be validated")
        self.val_freq = int(val_freq)
        requested, self._validates = BestScore(key, mode), valid is not None
        if key is not None:
            if (names := self.score_names()) is not None:
                find_score_key(key, names)
            if valid is None:
                _LOGGER.warning("no validation data: %r of training decides which epoch is best", key)
        if (requested.key, requested.mode) != (self.best.key, self.best.mode):
            if self.best.score is not None:
                _LOGGER.warning("another score decides from now on (%r): the best one starts anew", key)
            self.best = requested
        self.stop_training = self.stop_now = self._left_early = False
        self.stop_reason = None

    def stop(self, reason: str, *, now: bool = False) -> None:
        """End the training after this epoch, and store the reason as ``stop_reason``.

        With ``now`` the training ends after this batch. The unfinished epoch is neither validated nor added to the
        history; a run resumed from the saved state trains on its remaining batches.
        """
        self.stop_training, self.stop_now, self.stop_reason = True, self.stop_now or now, reason

    def _stop_for_signal(self, name: str) -> None:
        self.stop(f"signal {name}", now=True)

    @abstractmethod
    def _setup(self, *args: Any, **kwargs: Any) -> None:
        """Set up the trainer. The constructor of the subclass calls this once."""

    @abstractmethod
    def _train_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> Mapping[str, float] | None:
        """Train one epoch and return the means of its losses and metrics, or None for those collected by the trainer.

        A batch is finished when the next one is requested. A resumed run starts with the first unfinished batch:
        ``enumerate(batchgen, start=self.batch_index)`` numbers the remaining ones.
        """

    def _values_of_epoch(self) -> Mapping[str, float]:
        """Values of an epoch for which the routine returned None."""
        return {}

    @abstractmethod
    def predict(self, batchgen: Iterable[Mapping[str, Any]], batch_size: int | None = None) -> Any:
        """Predict all batches of a generator."""

    def _validate_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> Mapping[str, float]:
        """Validate one epoch and return the means of its losses and metrics, without a prefix."""
        raise NotImplementedError(f"{type(self).__name__} does not validate: override _validate_single_epoch")

    def _check_validation(self, source: Any) -> None:  # noqa: B027  optional
        """Check the validation data before the first epoch."""

    def _score_names(self, *, validated: bool) -> list[str] | None:
        """Names of all scores of an epoch, with those of validation (``val_``) if ``validated``; None if unknown."""
        return None

    def score_names(self) -> list[str] | None:
        """Names of all scores of the epochs of this training, or None if they are unknown before the first epoch."""
        return self._score_names(validated=self._validates)

    def measured_score(self, key: str, metrics: Mapping[str, float]) -> tuple[str, float] | None:
        """Full name and value of a score in the metrics of one epoch, or None if the epoch was not validated.

        Raises
        ------
        ScoreKeyError
            If the score is not computed.
        """
        return measured_score(key, metrics, self.score_names(), validates=self._validates)

    def best_network(self) -> Any:
        """Network that :meth:`train` returns."""
        return None

    def save_state(self, file_name: Path, *args: Any, **kwargs: Any) -> None:
        """Write the state of the run to a file."""
        raise NotImplementedError(f"{type(self).__name__} writes no state: override save_state")

    @staticmethod
    def load_state(file_name: Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read the state of a run from a file."""
        raise NotImplementedError("this trainer reads no state: override load_state")

    def _at_training_begin(self, *, num_epochs: int | None = None) -> None:
        """Dispatch ``at_training_begin``."""
        self._dispatch("at_training_begin", num_epochs=num_epochs)

    def _at_epoch_begin(
        self, metrics_val: Mapping[str, float], val_score_key: str | None, epoch: int, num_epochs: int
    ) -> None:
        """Dispatch ``at_epoch_begin``."""
        self._dispatch(
            "at_epoch_begin",
            val_metrics=metrics_val,
            val_score_key=val_score_key,
            curr_epoch=epoch,
            num_epochs=num_epochs,
            first_iter=self.batch_index,
        )

    def _at_epoch_end(
        self, metrics_val: Mapping[str, float], val_score_key: str | None, epoch: int, is_best: bool
    ) -> None:
        """Append the epoch to the history, then dispatch ``at_epoch_end`` and ``at_checkpoint``."""
        if "epoch" in metrics_val:
            raise ConfigError("'epoch' is the name of the number of the epoch in the history: rename that value")
        self.metrics_val = dict(metrics_val)
        self.history.append({"epoch": epoch, **self.metrics_val})
        self.start_epoch, self.batch_index = epoch + 1, 0
        event = {"val_metrics": self.metrics_val, "curr_epoch": epoch, "is_best": is_best}
        self._dispatch("at_epoch_end", val_score_key=val_score_key, **event)
        self._dispatch("at_checkpoint", **event)

    def _at_exception(self, exception: BaseException) -> None:
        """Dispatch ``at_exception`` to all callbacks, even if some fail."""
        self._callbacks.call_all("at_exception", self, {"exception": exception})

    def _at_training_end(self, *, exception: BaseException | None = None) -> Any:
        """Dispatch ``at_training_end`` to all callbacks, even if some fail, and return the best network."""
        exception = self._failure if exception is None else exception
        errors = self._callbacks.call_all("at_training_end", self, {"exception": exception})
        if exception is not None:
            return None
        if errors:
            raise errors[0]
        return self.best_network()

    @property
    def callbacks(self) -> tuple[Any, ...]:
        """The registered callbacks, in order."""
        return tuple(self._callbacks.callbacks)

    def register_callback(self, callback: Any) -> None:
        """Register a callback: an ``AbstractCallback``, or an object with ``at_epoch_begin`` and ``at_epoch_end``.

        Raises
        ------
        CallbackTypeError
            If it is neither. The error is also an ``AssertionError``, as in delira.
        """
        listens = self.ranks.is_main or getattr(callback, "runs_everywhere", True)
        self._callbacks.add(callback, listens=listens)

    def _dispatch(self, hook: str, **event: Any) -> None:
        """Call a hook of every callback in the order of registration, and apply the state that they return."""
        for name, returned in self._callbacks.call(hook, self, event):
            self._check_state_keys(returned, f"callback {name} returned from {hook}")
            self._update_state(returned)

    def _dispatch_iter_begin(self, data_dict: Mapping[str, Any], **event: Any) -> Mapping[str, Any]:
        """Call ``at_iter_begin`` and return the batch. Each callback may replace the batch for the following ones."""
        self._dispatch_step_done()
        if not self._callbacks.listens("at_iter_begin"):
            return data_dict
        event["data_dict"] = data_dict
        for name, returned in self._callbacks.call("at_iter_begin", self, event):
            state = dict(returned)
            event["data_dict"] = state.pop("data_dict", event["data_dict"])
            self._check_state_keys(state, f"callback {name} returned from at_iter_begin", also="data_dict")
            self._update_state(state)
        batch: Mapping[str, Any] = event["data_dict"]
        return batch

    def _finish_iteration(self, iter_num: int, epoch: int) -> None:
        """Count a training step as finished. Call this at the end of each training step.

        ``at_iter_done`` is dispatched before the next step, or when the batch is finished.
        """
        self._dispatch_step_done()
        self._step_done = {"iter_num": iter_num, "curr_epoch": epoch, "global_iter_num": self.step}
        self.step += 1
        self.is_between_steps = False  # even if a routine requested all batches before its first step

    def _dispatch_step_done(self) -> None:
        event, self._step_done = self._step_done, None
        if event is not None:
            self._dispatch("at_iter_done", **event)

    def _check_state_keys(self, state: Mapping[str, Any], who: str, *, also: str | None = None) -> None:
        allowed = self.STATE_KEYS | ({also} if also else set())
        if unknown := sorted(state.keys() - allowed):
            raise StateKeyError(f"{who} {unknown[0]!r}, which it may not set. {did_you_mean(unknown[0], allowed)}")

    def _update_state(self, new_state: Mapping[str, Any] | None) -> AbstractNetworkTrainer:
        """Set the given state attributes.

        Raises
        ------
        StateKeyError
            For a key that is not in ``STATE_KEYS``.
        """
        self._check_state_keys(new_state or {}, "the new state has")
        for key, value in (new_state or {}).items():
            setattr(self, key, value)
        return self

    def update_state(self, file_name: Path, *args: Any, **kwargs: Any) -> AbstractNetworkTrainer:
        """Load the state from a file and return the trainer."""
        return self._update_state(self.load_state(file_name, *args, **kwargs))

    @staticmethod
    def _is_better_val_scores(old_val_score: float | None, new_val_score: float, mode: str = "highest") -> bool:
        """Whether a validation score is better than the old one; ties and NaN are not.

        Examples
        --------
        >>> AbstractNetworkTrainer._is_better_val_scores(0.2, 0.3, "highest")
        True
        """
        return is_better(old_val_score, new_val_score, mode)

    @property
    def iteration(self) -> int:
        """Alias of ``batch_index``."""
        return self.batch_index

    @property
    def global_iter_num(self) -> int:
        """Alias of ``step``."""
        return self.step

    @property
    def fold(self) -> int:
        """Number of the current fold, from 0.

        Raises
        ------
        TypeError
            If it is set to a value that is not a whole number.
        """
        return self._fold

    @fold.setter
    def fold(self, fold: int | str) -> None:
        if isinstance(fold, str) and fold.isdecimal():  # delira names folds "0", "1", ...
            fold = int(fold)
        require_whole("fold", fold, error=TypeError)
        self._fold = require_whole("fold", fold, 0)

    def computation(self) -> dict[str, str]:
        """Back end, processor and instruction set of the training, if the subclass provides them."""
        return {}

    def summary(self) -> dict[str, Any]:
        """Plain values of a finished training, for ``result.json`` in the folder of its run.

        Returns
        -------
        dict
            ``num_epochs`` (finished epochs), ``best_epoch`` and ``best_score`` (None without a score), ``scores`` of
            the last epoch, ``stop_reason``, and ``computation`` (back end and processor).
        """
        return {
            "num_epochs": self.start_epoch - 1,
            "best_epoch": self.best.epoch,
            "best_score": self.best.score,
            "scores": {name: float(value) for name, value in self.metrics_val.items()},
            "stop_reason": self.stop_reason,
            "computation": self.computation(),
        }

    def describe(self) -> str:
        """Table of the hooks and the callbacks that run at each, in order; a dash marks a hook without callbacks."""
        lines = [f"{type(self).__name__}, fold {self.fold}, next epoch {self.start_epoch}"]
        width = max(map(len, HOOKS))
        lines += [f"  {hook:{width}}  {', '.join(self._callbacks.names_at(hook)) or '-'}" for hook in HOOKS]
        return "\n".join(lines)


def _call(hook: Callable[..., Any], **keywords: Any) -> Any:
    """Call a hook of a trainer with the keywords that it accepts; an override may accept fewer."""
    return hook(**accepted_keywords(getattr(hook, "__func__", hook), keywords))
