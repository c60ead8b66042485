"""Training of a network by its closure, in any framework: losses, metrics, validation, and the state of the run."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np

from delira_nca.checks import accepted_keywords, require_whole
from delira_nca.data_loading.batches import first_batch
from delira_nca.errors import CheckpointError, ConfigError, RunLockedError, ShapeError, refuse_unknown_keywords
from delira_nca.io.checkpoint import load_checkpoint, save_checkpoint
from delira_nca.io.files import sweep
from delira_nca.io.manifest import Manifest
from delira_nca.io.paths import absolute
from delira_nca.io.resume import ResumePlan, plan_resume
from delira_nca.io.run_lock import RunLock
from delira_nca.losses.metric import is_metric
from delira_nca.models.network import DEFAULT_KEYS, declared_loss_names, entry
from delira_nca.seeding import derive_seed, isolated_rng, only_thread
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer, Path
from delira_nca.training.batches import batches_of, check_batch, check_source
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.checkpoint import Checkpoint
from delira_nca.training.callbacks.stopping import Duration, to_seconds
from delira_nca.training.distributed.context import ALONE
from delira_nca.training.run_environment import changes
from delira_nca.training.scores import check_measured_names, check_value_names
from delira_nca.training.set_values import SetValues, as_arrays, predict_batches

__all__ = ["NetworkTrainer", "own_loss_names", "refuse_unknown_arguments"]

_LOGGER = logging.getLogger("delira_nca")
FORMAT_VERSION = 1
Functions = Mapping[str, Callable[..., Any]]


class NetworkTrainer(AbstractNetworkTrainer):
    """Base class of the trainers of networks, one for each framework.

    It calls the closure of the network on every batch, averages losses and metrics, and saves and resumes the run. A
    subclass adds what depends on the framework: devices, optimizers, and the weights as entries of a checkpoint.

    Parameters
    ----------
    network : AbstractNetwork
        Network with the methods ``closure`` and ``prepare_batch``.
    save_path : str or path, optional
        Folder of the checkpoints; no checkpoints are written if None.
    criterions, metrics : mapping of str to callable, optional
        Functions by name that are minimised, and functions that are only measured.
    fold, callbacks
        See :class:`~delira_nca.training.AbstractNetworkTrainer`.
    metric_keys : mapping, optional
        Names of the arguments of a criterion or metric by its name.
    save_freq, start_epoch, val_freq, save_seconds, seed
        See :class:`~delira_nca.training.PyTorchNetworkTrainer`.
    """

    STATE_KEYS = AbstractNetworkTrainer.STATE_KEYS | {"save_freq", "criterions", "metrics"}

    framework: ClassVar[str]
    """Name of the framework in checkpoints."""
    _nan_advice: ClassVar[str] = ""
    network_class: ClassVar[type[Any]]
    """Class whose closure is the training step of the package."""

    network: Any
    optimizers: dict[str, Any]
    device: Any
    input_device: Any
    output_device: Any

    _lock: RunLock | None = None
    """Lock of the checkpoint folder while a training is running, otherwise None."""

    def __init__(
        self,
        network: Any,
        save_path: Path | None,
        criterions: Functions | None,
        metrics: Functions | None,
        fold: int,
        callbacks: Sequence[Any],
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None,
        save_freq: int,
        start_epoch: int,
        val_freq: int,
        save_seconds: Duration | None,
        seed: int,
    ) -> None:
        self._check(network, criterions, metrics, metric_keys, save_freq, start_epoch)
        super().__init__(fold, callbacks)
        self.save_path = None if save_path is None else absolute(save_path)
        self.save_freq = int(save_freq)
        self.criterions, self.metrics = dict(criterions or {}), dict(metrics or {})
        self.metric_keys = dict(metric_keys or {})
        derive_seed(seed)
        self.start_epoch, self.val_freq, self.seed = int(start_epoch), val_freq, int(seed)
        self.save_seconds = None if save_seconds is None else to_seconds(save_seconds)
        if self.save_seconds is not None and not save_freq:
            raise ConfigError(f"save_freq=0 writes no checkpoints, but save_seconds={save_seconds!r} is given")
        self._best_weights: dict[str, Any] | None = None
        self._means, self._begun_means = SetValues(), None
        self._measuring: Functions = self.metrics
        self._checked: set[bool] = set()
        self._first_validation_batch: Mapping[str, Any] | None = None

    @classmethod
    def _check(
        cls,
        network: Any,
        criterions: Functions | None,
        metrics: Functions | None,
        metric_keys: Mapping[str, Any] | None,
        save_freq: int,
        start_epoch: int,
    ) -> None:
        cls._check_network(network)
        for what, given in (("criterion", criterions), ("metric", metrics)):
            if given is not None and not isinstance(given, Mapping):
                raise ConfigError(f"{what}s are functions by name, such as {{'mse': nn.MSELoss()}}, not {given!r}")
            for name, function in (given or {}).items():
                if isinstance(function, type):
                    raise ConfigError(f"{what} {name!r} is the class {function.__name__}: give an object of it")
                if not callable(function) and not (what == "metric" and is_metric(function)):
                    raise ConfigError(f"{what} {name!r} is called with tensors, but {function!r} cannot be called")
        check_value_names(criterions or dict.fromkeys(own_loss_names(network)), metrics or {})
        closure = getattr(network, "closure", cls.network_class.closure)
        has_loss = getattr(network, "has_loss", getattr(network, "loss_names", None) is not None)
        if not criterions and not has_loss and closure is cls.network_class.closure:
            raise ConfigError(f"there is nothing to minimise: {type(network).__name__} has no loss; give criterions")
        functions = {**(criterions or {}), **(metrics or {})}
        is_wiring = isinstance(metric_keys or {}, Mapping)
        if not is_wiring or any(not isinstance(keys, (tuple, list)) for keys in (metric_keys or {}).values()):
            raise ConfigError(
                "metric_keys are the names of the arguments of a criterion or metric by its name, such as "
                f"{{'mse': ('pred', 'label')}}, not {metric_keys!r}"
            )
        refuse_unknown_keywords("metric_keys", [name for name in metric_keys or {} if name not in functions], functions)
        require_whole("save_freq", save_freq, 0)
        require_whole("start_epoch", start_epoch, 1)

    @staticmethod
    def _check_network(network: Any) -> None:
        """Raise a ConfigError if a network cannot be trained by this trainer."""

    def _add_callbacks(self, lr_scheduler: AbstractCallback | None) -> None:
        """Register the callbacks of the scheduler and of the checkpoints."""
        if lr_scheduler is not None:
            self.register_callback(lr_scheduler)
        if self.save_path is not None and not any(isinstance(c, Checkpoint) for c in self.callbacks):
            self.register_callback(Checkpoint())

    @abstractmethod
    def _weights(self) -> dict[str, Any]:
        """Copy of the weights of the network by name, on the CPU."""

    @abstractmethod
    def _with_weights(self, weights: Mapping[str, Any] | None) -> Any:
        """Return a copy of the network with the given weights, or the network itself for None, for evaluation."""

    @abstractmethod
    def _framework_state(self) -> dict[str, Any]:
        """Entries of a checkpoint that depend on the framework: ``model``, ``network``, ``optimizers``, ..."""

    @abstractmethod
    def _check_framework_state(self, state: Mapping[str, Any]) -> None:
        """Raise a CheckpointError if a saved state does not fit."""

    @abstractmethod
    def _load_framework_state(self, state: Mapping[str, Any]) -> None:
        """Load the entries of :meth:`_framework_state`, which have been checked."""

    @abstractmethod
    def _circumstances(self) -> dict[str, Any]:
        """Plain values that describe versions, device and precision, for a checkpoint."""

    @abstractmethod
    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rate of each optimizer by name."""

    @abstractmethod
    def map_learning_rates(self, function: Callable[[float], float]) -> None:
        """Replace each learning rate by a function of it."""

    @abstractmethod
    def _describe_weights(self) -> str:
        """Number of trained weights, and their device."""

    def _closure_options(self, *, train: bool) -> dict[str, Any]:
        """Further keyword arguments of the closure."""
        return {}

    def _wrapped_functions(
        self, functions: Functions, *, what: str, is_first: bool, differentiated: bool, values: bool
    ) -> Functions:
        """Wrap criterions or metrics, for example to check arguments and results in the first batch.

        ``differentiated`` is whether gradients are needed, ``values`` whether results have to be numbers.
        """
        return functions

    def _argument_keys(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the arguments of criterions and metrics, by their names."""
        return self.metric_keys

    def _shown(self, data_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Convert a prepared batch for the callbacks."""
        return data_dict

    def _set_mode(self, *, train: bool) -> None:
        """Set the network to the mode of training or of evaluation."""

    def _evaluating(self) -> AbstractContextManager[Any]:
        """Context manager with the network in the mode of evaluation."""
        return nullcontext()

    @abstractmethod
    def _forward(self, data_dict: Mapping[str, Any], seed: int) -> Any:
        """Prediction of a prepared batch without labels, for a network with its own closure."""

    def _train_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        """Train on every batch and return the means over samples of losses and metrics."""
        self._set_mode(train=True)
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
        self._set_mode(train=False)
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
        data_dict = self._prepare(batch)
        self._measuring = (self._means if train else into or SetValues(self.metrics)).functions
        values, prediction = self._compute(data_dict, iter_num, train=train)
        values = self.ranks.mean(values)
        if self._callbacks.listens("at_iter_end"):
            self._dispatch(
                "at_iter_end", data_dict=self._shown(data_dict), metrics=values, prediction=prediction, **event
            )
        if train:
            self._means.add(values, self.ranks.num_samples(batch))
            self._finish_iteration(iter_num, epoch)
        return values, prediction

    def _prepare(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch to the input of the closure."""
        prepare = getattr(self.network, "prepare_batch", self.network_class.prepare_batch)
        prepared: dict[str, Any] = prepare(dict(batch), self.input_device, self.output_device)
        return prepared

    def _compute(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Return the values and the prediction of an iteration."""
        return self._closure(dict(data_dict), iter_num, train=train)

    @property
    def _network_closure(self) -> Callable[..., Any]:
        return getattr(self.network, "closure", self.network_class.closure)  # type: ignore[no-any-return]

    @property
    def _has_own_closure(self) -> bool:
        """Whether the training step differs from that of the package."""
        is_base = type(self)._closure is NetworkTrainer._closure
        return not is_base or self._network_closure is not self.network_class.closure

    def _closure(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Call the closure of the network with seeds that depend only on the iteration."""
        return self._call_closure(data_dict, iter_num, train=train)

    def _call_closure(
        self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool, partial: bool = False
    ) -> tuple[dict[str, Any], Any]:
        keys = ("train", self.step) if train else ("valid", iter_num)
        is_first, values = train not in self._checked, not self._has_own_closure
        wrapped = functools.partial(self._wrapped_functions, is_first=is_first, values=values)
        criterions = wrapped(self.criterions, what="criterion", differentiated=train)
        metrics = wrapped(self._measuring, what="metric", differentiated=False)
        options: dict[str, Any] = {"partial": True} if partial else self.ranks.closure_options()
        options |= {"fold": self.fold, "batch_nr": self.step if train else iter_num, "keys": self._argument_keys()}
        options |= {
            "seed": derive_seed(self.seed, "rollout", *keys),
            **self._closure_options(train=train and not partial),
        }
        closure = self._network_closure
        with isolated_rng(derive_seed(self.seed, "closure", *keys, *self.ranks.stream)), self.ranks.working():
            returned = closure(
                self.network,
                data_dict,
                self.optimizers if train else {},
                criterions,
                metrics,
                **accepted_keywords(closure, options),
            )
        measured, losses, prediction = _checked_result(returned)
        if is_first:
            if shared := sorted(measured.keys() & losses.keys()):
                raise ConfigError(f"closure returns {shared[0]!r} as a loss and as a metric: choose two names")
            check_measured_names({**measured, **losses}, train=train)
            self._checked.add(train)
        return {name: v for name, v in {**measured, **losses}.items() if v is not None}, prediction

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
            data_dict = self._prepare(batch)
            self._measuring = measured.functions
            values: dict[str, Any] = {}
            if not self._has_own_closure:
                values, prediction = self._call_closure(data_dict, number, train=False, partial=True)
            elif any(key in data_dict for key in targets):
                found, prediction = self._closure(data_dict, number, train=False)
                values = {name.removeprefix("val_"): value for name, value in found.items()}
            else:
                keys = ("valid", number)
                with isolated_rng(derive_seed(self.seed, "closure", *keys)), self.ranks.working():
                    prediction = self._forward(data_dict, derive_seed(self.seed, "rollout", *keys))
            return values, as_arrays(prediction)

        ranks = self.ranks if share else ALONE
        measured = SetValues(self.metrics, ranks)
        wired = [key for keys in self.metric_keys.values() for key in keys]
        targets = dict.fromkeys(("label", *(key for key in wired if key != "data")))
        with self._evaluating(), nullcontext() if share else self.ranks.no_sync():
            return predict_batches(evaluate, batchgen, batch_size, ranks, measured, tuple(targets))

    @property
    def _training_metrics(self) -> dict[str, Any]:
        """Metrics that are also evaluated on training batches."""
        return {name: f for name, f in self.metrics.items() if not getattr(f, "validation_only", False)}

    def _score_names(self, *, validated: bool) -> list[str] | None:
        """Names of losses and metrics, or None if a custom routine may compute others."""
        losses = self.criterions or own_loss_names(self.network)
        names = [*losses, *(self.metrics if validated else self._training_metrics), "loss"]
        routine = "_validate_single_epoch" if validated else "_train_single_epoch"
        own_closure = self._network_closure is not self.network_class.closure
        if not losses or own_closure or getattr(type(self), routine) is not getattr(NetworkTrainer, routine):
            return None
        return list(dict.fromkeys([*names, *(f"val_{name}" for name in names)] if validated else names))

    def _at_training_begin(self, *, num_epochs: int | None = None) -> None:
        """Check the number of steps of the network, and dispatch ``at_training_begin``."""
        if getattr(self.network, "training_timesteps", None) == 0:
            raise ConfigError(f"{type(self.network).__name__} must have training_timesteps of at least 1, not 0")
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
            self._best_weights = self._weights()
        super()._at_epoch_end(metrics_val, val_score_key, epoch, is_best)

    def best_network(self) -> Any:
        """Return a copy of the network of the best epoch, or the network itself if no score is given.

        The trainer's own network keeps the weights of the last epoch, so that training can continue. If weights are
        NaN or infinite, an error is logged.
        """
        weights = None if self.best.score is None else self._best_weights
        network = self._with_weights(weights)
        for name, value in (self._weights() if weights is None else weights).items():
            if not _has_finite_values(value):
                since = next((row["epoch"] for row in self.history if not _is_finite(row)), None)
                when = "" if since is None else f"; the values of epoch {since} were the first that were not finite"
                _LOGGER.error("the trained network is not finite: %s%s%s", name, when, self._nan_advice)
                break
        return network

    def state_dict(self) -> dict[str, Any]:
        """State from which the run can be resumed exactly: tensors, arrays and plain Python values."""
        return {
            "format_version": FORMAT_VERSION,
            "circumstances": self._circumstances(),
            "epoch": self.start_epoch - 1,
            "batch_index": self.batch_index,
            "step": self.step,
            "iteration": self.batch_index,  # key used to find checkpoints
            "global_iter_num": self.step,
            "means": self._means.state_dict() if self.batch_index else None,
            "fold": self.fold,
            "seed": self.seed,
            "run_id": self.run_id,
            "framework": self.framework,
            **self._framework_state(),
            "best": self.best.state_dict(),
            "best_weights": self._best_weights,
            "callbacks": self._callbacks.state_dict(),
            "history": copy.deepcopy(self.history),
            "metrics_val": dict(self.metrics_val),
        }

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
        if changed := changes(state.get("circumstances", {}), self._circumstances()):
            _LOGGER.warning("the run may not continue bit for bit: %s", "; ".join(changed))
        if self.save_path is not None and plan.path.parent.resolve() == self.save_path.resolve():
            manifest = Manifest(self.save_path, self.run_id)
            self.ranks.on_main(manifest.add, plan.path, epoch=plan.epoch, iteration=plan.iteration)

    def _plan_resume(self, resume: Path) -> ResumePlan:
        if self.save_path is not None:
            for folder in (self.save_path, *([self.save_path.parent] if self.save_path.name == "checkpoints" else [])):
                sweep(folder)
        return plan_resume(resume, self.save_path)

    def _update_state(self, new_state: Mapping[str, Any] | None) -> NetworkTrainer:
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
        framework = new_state.get("framework", "torch")
        if framework != self.framework:
            raise CheckpointError(f"the checkpoint is of a training in {framework}, not in {self.framework}")
        self._check_framework_state(new_state)
        run_id = new_state.get("run_id", self.run_id)
        self._callbacks.begin_run(run_id)
        self._callbacks.load_state_dict(new_state["callbacks"])  # first: a callback may reject its state
        self._load_framework_state(new_state)
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

    def describe(self) -> str:
        """Text that describes the network, the device, the functions, and the callbacks at each hook, in order."""
        network = type(self.network).__name__
        optimizers = ", ".join(f"{name}: {type(o).__name__}" for name, o in self.optimizers.items())
        processes = "" if self.ranks.is_alone else f", in each of {self.ranks.size} processes"
        found = self.computation()
        lines = [
            super().describe(),
            f"  network            {network}, {self._describe_weights()}{processes}",
            f"  back end           {found.get('backend', '-')}",
            f"  processor          {found['processor']}, {found['instruction_set']}",
            f"  optimizers         {optimizers}",
            f"  criterions         {', '.join(self.criterions) or 'the loss of the network'}",
            f"  metrics            {', '.join(self.metrics) or '-'}",
        ]
        checkpoints = [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]
        lines += [f"  checkpoints        {callback.describe(self)}" for callback in checkpoints]
        return "\n".join(lines)


def own_loss_names(network: Any) -> list[str]:
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


def _is_finite(row: Mapping[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, (int, float)))


def _has_finite_values(value: Any) -> bool:
    """Whether a tensor or array has only finite numbers; other values count as finite."""
    if hasattr(value, "isfinite"):
        return not value.is_floating_point() or bool(value.isfinite().all())
    return not (isinstance(value, np.ndarray) and value.dtype.kind == "f") or bool(np.isfinite(value).all())


def refuse_unknown_arguments(trainer: NetworkTrainer, given: Mapping[str, Any], base: type[NetworkTrainer]) -> None:
    """Raise a ConfigError for keyword arguments that no constructor of the trainer takes, with the nearest name."""
    names = set()
    for owner in (type(trainer), base):
        parameters = inspect.signature(owner.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    refuse_unknown_keywords(type(trainer).__name__, given, names - {"self"})
