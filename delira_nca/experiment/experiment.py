"""Experiments: runs, tests and cross-validations of a model class with a config, each in its own folder."""

from __future__ import annotations

import copy
import inspect
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from delira_nca.checks import require_callable, require_whole
from delira_nca.errors import ConfigError, refuse_unknown_keywords
from delira_nca.experiment.experiment_settings import (
    FILE,
    RESERVED,
    as_manager,
    describe_experiment,
    first_difference,
    functions_of,
    name_of_data,
    newest_folder,
    open_data,
    read_description,
    read_settings,
    trainer_arguments,
)
from delira_nca.experiment.parameters import Parameters
from delira_nca.experiment.plain_files import write_plain
from delira_nca.experiment.predictor import Predictor, predict_all
from delira_nca.experiment.result import RunResult
from delira_nca.experiment.store import StoredRun
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import claim_folder, kept_if_trained, write_environment
from delira_nca.logging import CSVSink, JSONLSink
from delira_nca.seeding import isolated_rng
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer
from delira_nca.training.callbacks.reporting import MetricLogger
from delira_nca.training.callbacks.stopping import Duration, to_seconds
from delira_nca.training.optimizers import OptimFn, create_optims_default_pytorch
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import higher_is_better

if TYPE_CHECKING:
    from delira_nca.experiment.folds import KFoldResult

__all__ = ["BaseExperiment", "Experiment", "PyTorchExperiment", "TrainedRun"]


@dataclass(frozen=True)
class TrainedRun:
    """Result of a run, with its network.

    Attributes
    ----------
    network : torch.nn.Module
        Network of the best epoch, or of the last one if no score is given.
    folder : Path
        Folder of the run.
    history : tuple of dict
        Scores of each epoch.
    best_epoch, best_score : int and float, or None
        Best epoch and its score; None if no score is given.
    stop_reason : str or None
        Reason for stopping before the last epoch.
    """

    network: Any
    folder: Path
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    best_score: float | None
    stop_reason: str | None


_OWN = ("num_epochs", "batch_size")
"""Training parameters that are not arguments of the trainer."""

Path_ = str | os.PathLike[str]


class Experiment:
    """Train, test and cross-validate a network according to a config.

    Parameters
    ----------
    config : Parameters or mapping or str or path
        :class:`Parameters`, ``{"model": {...}, "training": {...}}``, or the path of a file. Model parameters are
        arguments of ``model_cls``; training parameters are arguments of the trainer, ``num_epochs`` and
        ``batch_size``. The config is copied and never changed.
    model_cls : type
        Class of the network. Its method ``from_dict`` is used if it has one, so that a file can describe all parts.
    name : str, optional
        Name of the folder of the runs; the name of the class by default.
    save_path : str or path, optional
        Parent folder; ``runs`` by default.
    val_score_key : str, optional
        Score that selects the best epoch; if None, the last epoch is used.
    val_score_mode : str
        Whether the ``"lowest"`` or the ``"highest"`` score is the best.
    optim_builder : callable
        Function of network, optimizer class and parameters that returns the optimizers.
    checkpoint_freq : int
        Number of epochs between two checkpoints. The 2 newest and that of the best epoch are kept; give
        ``callbacks=[functools.partial(Checkpoint, last=0)]`` to keep all.
    trainer_cls : type of AbstractNetworkTrainer
        Class of the trainer.
    predictor_cls : type of Predictor, optional
        Class of the predictor for tests: :class:`Predictor` or a subclass.
    checkpoint_seconds : float or str, optional
        Time between two checkpoints, such as ``600`` (seconds) or ``"10m"``. Shorter epochs are not all saved; longer
        ones are also saved between batches.
    **trainer_kwargs
        Arguments of the trainer that are not in the config. Each run gets copies. Callbacks may also be classes or
        partials of them, which are instantiated for each run.

    Attributes
    ----------
    last_run : TrainedRun, optional
        Result of the last :meth:`run` or :meth:`resume`, or None.

    Raises
    ------
    ConfigError
        If a class has an unsuitable type, or an argument is set by the experiment itself.

    Examples
    --------
    >>> import numpy as np
    >>> from delira_nca.models import BasicNCAModel
    >>> config = {
    ...     "model": {"num_image_channels": 1, "num_hidden_channels": 2, "num_output_channels": 1, "hidden_size": 4,
    ...               "training_timesteps": 2, "inference_timesteps": 2},
    ...     "training": {"criterions": {"bce": "torch.nn.functional.binary_cross_entropy_with_logits"},
    ...                  "optimizer_params": {"lr": 1e-2}, "num_epochs": 2, "batch_size": 4},
    ... }
    >>> experiment = Experiment(config, BasicNCAModel, "tiny", getfixture("tmp_path"))
    >>> data = {"data": np.ones((8, 1, 6, 6)), "label": np.ones((8, 1, 6, 6))}
    >>> network = experiment.run(data)
    >>> experiment.last_run.folder.name, [row["epoch"] for row in experiment.last_run.history]
    ('run', [1, 2])
    """

    def __init__(
        self,
        config: Parameters | Mapping[str, Any] | Path_,
        model_cls: type[Any],
        name: str | None = None,
        save_path: Path_ | None = None,
        val_score_key: str | None = None,
        val_score_mode: str = "lowest",
        optim_builder: OptimFn = create_optims_default_pytorch,
        checkpoint_freq: int = 1,
        trainer_cls: type[AbstractNetworkTrainer] = PyTorchNetworkTrainer,
        predictor_cls: type[Predictor] | None = None,
        checkpoint_seconds: Duration | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        self.config = Parameters.of(config)
        for what, cls, base in (
            ("model_cls", model_cls, nn.Module),
            ("trainer_cls", trainer_cls, AbstractNetworkTrainer),
            ("predictor_cls", Predictor if predictor_cls is None else predictor_cls, Predictor),
        ):
            if not isinstance(cls, type) or not issubclass(cls, base):
                raise ConfigError(f"{what} is a class derived from {base.__name__}, not {cls!r}")
        require_callable("optim_builder", optim_builder)
        higher_is_better(val_score_mode)
        for key in trainer_kwargs:
            if key in RESERVED:
                raise ConfigError(f"{key!r} cannot be set: {RESERVED[key]}")
            if key in _OWN:
                raise ConfigError(f"{key!r} belongs into the config: {{'training': {{{key!r}: ...}}}}")
        self.trainer_cls: type[Any] = trainer_cls
        self.model_cls, self.predictor_cls = model_cls, predictor_cls
        self.name = model_cls.__name__ if name is None else name
        self.save_path = absolute("runs" if save_path is None else save_path)
        self.val_score_key, self.val_score_mode = val_score_key, val_score_mode
        self.optim_builder, self.checkpoint_freq = optim_builder, checkpoint_freq
        self.checkpoint_seconds = None if checkpoint_seconds is None else to_seconds(checkpoint_seconds)
        self.trainer_kwargs = dict(trainer_kwargs)
        self.last_run: TrainedRun | None = None

    @property
    def params(self) -> Parameters:
        """Config, under its name in delira."""
        return self.config

    @property
    def folder(self) -> Path:
        """Folder of all runs of the experiment."""
        return self.save_path / self.name

    # Network and trainer ------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        names = [p for p in inspect.signature(Experiment.__init__).parameters if p != "self"]
        return {name: getattr(self, name) for name in names}

    def setup(self, config: Any = None, *, save_path: Path_ | None = None, fold: int = 0) -> Any:
        """Create network and trainer.

        Parameters
        ----------
        config : object
            Values that replace those of the experiment for this call.
        save_path : str or path, optional
            Folder of the checkpoints; no checkpoints are written if None.
        fold : int
            Number of the fold.

        Returns
        -------
        trainer
            Trainer of class ``trainer_cls``. The initial weights of its network depend on ``training.seed``.

        Raises
        ------
        ConfigError
            If network or trainer cannot be created from the config.
        """
        experiment = self.with_config(config)
        training = {key: value for key, value in experiment.config.training.items() if key not in _OWN}
        arguments = trainer_arguments(training, experiment.trainer_kwargs)
        arguments |= {"save_path": save_path, "fold": fold}
        arguments |= {"optim_fn": self.optim_builder, "save_freq": self.checkpoint_freq}
        if self.checkpoint_seconds is not None:
            arguments["save_seconds"] = self.checkpoint_seconds
        return self.trainer_cls(network=experiment.make_network(), **arguments)

    def make_network(self) -> Any:
        """Create a network with initial weights that depend only on the seed."""
        arguments, cls = self.config.model, self.model_cls
        with isolated_rng(self.seed):
            if hasattr(cls, "from_dict"):
                return cls.from_dict(arguments)
            try:
                inspect.signature(cls).bind(**arguments)
            except TypeError as error:
                raise ConfigError(f"{cls.__name__} cannot be made of {sorted(arguments)}: {error}") from None
            return cls(**arguments)

    @property
    def seed(self) -> int:
        """Seed of all random numbers: initial weights, order of samples, and training."""
        return int(self.trainer_kwargs.get("seed", self.config.training.get("seed", 0)))

    def with_config(self, config: Any) -> Experiment:
        """Return a copy with changed values in its config."""
        other = copy.copy(self)
        other.last_run, other.trainer_kwargs = None, dict(self.trainer_kwargs)
        other.config = self.config.with_changes(config)
        return other

    def num_epochs(self, num_epochs: int | None = None) -> int:
        """Number of epochs of a run: the given one, or that of the config."""
        found = self.config.training.get("num_epochs") if num_epochs is None else num_epochs
        if found is None:
            raise ConfigError("how many epochs? Give num_epochs, or training.num_epochs in the config")
        return require_whole("num_epochs", found, 1)

    # Runs ---------------------------------------------------------------------------------------------------------

    def run(
        self, train: Any, val: Any = None, config: Any = None, *, num_epochs: int | None = None, resume: Path_ = "never"
    ) -> Any:
        """Train a new network, in a new folder: ``<save_path>/<name>/run``, ``run-2``, ...

        The folder contains ``experiment.json``, ``data.json``, ``environment.json``, ``metrics.jsonl``,
        ``metrics.csv``, ``checkpoints`` and, after the training, ``result.json``.

        Parameters
        ----------
        train, val : object
            Data managers, datasets, dicts of arrays, or their paths; see
            :func:`~delira_nca.experiment.experiment_settings.open_data`. A data manager with the ``batch_size`` of the
            config is created unless a data manager is given.
        config : object
            Values that replace those of the experiment for this run.
        num_epochs : int, optional
            Number of epochs; that of the config by default.
        resume : str or path
            ``"never"``; ``"auto"`` to resume the newest run with the same settings, or to start one if there is none;
            or the folder of a run.

        Returns
        -------
        network
            Network of the best epoch, or of the last one if no score is given; see also ``last_run``.

        Raises
        ------
        ConfigError
            Before a folder is created, if network, trainer or data cannot be created.
        """
        experiment = self.with_config(config)
        num_epochs = experiment.num_epochs(num_epochs)
        if resume not in ("never", "auto"):
            return self.resume(resume, train, val, config=config, num_epochs=num_epochs)
        described = describe_experiment(experiment, strict=False)
        folder = newest_folder(self.folder, "run", described) if resume == "auto" else None
        self.last_run = experiment.train_in(folder, train, val, num_epochs)
        return self.last_run.network

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call :meth:`run`."""
        return self.run(*args, **kwargs)

    def resume(
        self, run_folder: Path_, train: Any, val: Any = None, *, config: Any = None, num_epochs: int | None = None
    ) -> Any:
        """Resume an interrupted run, with results bitwise equal to those of an uninterrupted one.

        Parameters
        ----------
        run_folder : str or path
            Folder of the run.
        train, val, config : object
            The same as at the start of the run.
        num_epochs : int, optional
            Number of epochs; that of the start by default. A larger number extends the run.

        Raises
        ------
        MissingFileError
            If there is no run in the folder.
        ConfigError
            If the settings of the run differ; the message contains the first difference.
        CheckpointError, RunLockedError
            If no checkpoint is intact, or another process is training in the folder.
        """
        experiment, folder = self.with_config(config), absolute(run_folder)
        recorded = read_description(folder)
        if difference := first_difference(describe_experiment(experiment, strict=False), recorded):
            raise ConfigError(
                f"the run in {folder} is of another experiment: {difference}. Give config=..., or take "
                "Experiment.load(folder)"
            )
        epochs = recorded.get("num_epochs") if num_epochs is None else num_epochs
        self.last_run = experiment.train_in(folder, train, val, experiment.num_epochs(epochs))
        return self.last_run.network

    def train_in(
        self,
        folder: Path | None,
        train: Any,
        val: Any,
        num_epochs: int,
        *,
        fold: int = 0,
        callbacks: Sequence[Any] = (),
        outcome: Mapping[str, Any] | None = None,
    ) -> TrainedRun:
        """Train in a folder, from its newest checkpoint if it has one.

        Parameters
        ----------
        folder : Path, optional
            Folder of the run; a new one is created by default.
        train, val, num_epochs
            As for :meth:`run`.
        fold : int
            Number of the fold.
        callbacks : sequence of callbacks
            Registered after those of the experiment.
        outcome : mapping, optional
            Further plain values for ``result.json``.
        """
        trainer: Any = None
        begin = time.perf_counter()
        data = {"train": name_of_data(train), "valid": name_of_data(val)}
        with ExitStack() as stack:
            train = stack.enter_context(self.managed(train, train=True))
            val = stack.enter_context(self.managed(val, train=False))
            self.setup(fold=fold)  # errors are raised before a folder is created
            if folder is None:
                folder = claim_folder(self.folder, "run")
                places = folder / "checkpoints"
                has_trained = lambda: bool((trainer and trainer.global_iter_num > 0) or checkpoints_in(places))  # noqa: E731
                stack.enter_context(kept_if_trained(folder, has_trained))
            trainer = self.setup(save_path=folder / "checkpoints", fold=fold)
            sinks = JSONLSink(folder / "metrics.jsonl"), CSVSink(folder / "metrics.csv")
            for callback in (MetricLogger(*sinks), *callbacks):
                trainer.register_callback(callback)
            write_plain({**describe_experiment(self, strict=False), "num_epochs": num_epochs}, folder / FILE)
            write_plain(data, folder / "data.json")
            write_environment(folder, **trainer.computation())
            score = (self.val_score_key, self.val_score_mode)
            network = trainer.train(num_epochs, train, val, *score, resume="auto")
        RunResult.of(trainer, folder, seconds=time.perf_counter() - begin, outcome=outcome).write()
        best = trainer.best
        return TrainedRun(network, folder, tuple(trainer.history), best.epoch, best.score, trainer.stop_reason)

    @contextmanager
    def managed(self, data: Any, *, train: bool, settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """Context manager of a data manager for data; None for None.

        See :func:`delira_nca.experiment.experiment_settings.as_manager`.

        Its workers are stopped at the end, unless a data manager was given.
        """
        if data is None:
            yield None
            return
        batch_size = self.config.training.get("batch_size")
        manager = as_manager(open_data(data), batch_size, self.seed, train=train, settings=settings)
        try:
            yield manager
        finally:
            if manager is not data and hasattr(manager, "close"):
                manager.close()

    # Tests --------------------------------------------------------------------------------------------------------

    def test(
        self,
        network: Any,
        data: Any,
        metrics: Mapping[str, Any],
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        test_kwargs: Mapping[str, Any] | None = None,
        per_sample: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """Predict samples, and compute metrics for each sample separately.

        Parameters
        ----------
        network : object
            Network to test, or the folder of a run, the best network of which is used.
        data : object
            Data, as for :meth:`run`.
        metrics : mapping
            Functions, or their import paths, by name. They are called with batches of one sample, so that means over
            samples do not depend on the batch size. A metric with update, compute and reset is computed over all
            samples.
        metric_keys : mapping, optional
            Names of the arguments of a metric by its name; by default those of the criterion or metric with the same
            name in the training, otherwise ``("pred", "label")``.
        test_kwargs : mapping, optional
            Settings of the data manager.
        per_sample : bool
            Whether to return the values of all samples instead of means.

        Returns
        -------
        tuple of (predictions, metrics)
            Array (N, ...), a list of N arrays if shapes differ, or a dict of these if the network has several outputs;
            and means, or arrays (N,), by name.
        """
        predictions, rows, means = self.measure(
            network, data, metrics, metric_keys=metric_keys, test_kwargs=test_kwargs
        )
        return predictions, rows if per_sample else means

    def measure(
        self,
        network: Any,
        data: Any,
        metrics: Mapping[str, Any],
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        test_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any], dict[str, float]]:
        """Predictions, metrics of each sample, and metrics of the set. The arguments are those of :meth:`test`."""
        if isinstance(network, (str, os.PathLike)):
            network = self.load_network(network)
        predictor = self.predictor(network, metrics, metric_keys)
        with self.managed(data, train=False, settings=test_kwargs) as manager:
            return predict_all(predictor, manager.get_batchgen())

    def predictor(
        self, network: Any, metrics: Mapping[str, Any], metric_keys: Mapping[str, tuple[str, ...]] | None = None
    ) -> Predictor:
        """Predictor of a test. The arguments are those of :meth:`test`."""
        functions = functions_of(metrics, "metrics")
        given = dict(metric_keys or {})
        refuse_unknown_keywords("metric_keys", [name for name in given if name not in functions], functions)
        known = self.trainer_kwargs.get("metric_keys") or self.config.training.get("metric_keys") or {}
        keys = {name: keys for name, keys in {**known, **given}.items() if name in functions}
        predictor_cls = Predictor if self.predictor_cls is None else self.predictor_cls
        return predictor_cls(network, functions, keys, self.seed)

    def load_network(self, run_folder: Path_, *, best: bool = True) -> Any:
        """Load the network of a run, in evaluation mode.

        Parameters
        ----------
        run_folder : str or path
            Folder of the run.
        best : bool
            Whether to load the weights of the best epoch, if a score was given, instead of those of the last epoch.

        Raises
        ------
        MissingFileError, CheckpointError
            If there is no run, no intact checkpoint, or the checkpoint does not fit the network.
        """
        return StoredRun(absolute(run_folder)).load_into(self.make_network(), "best" if best else "latest")

    def kfold(
        self,
        data: Any,
        metrics: Mapping[str, Any],
        num_epochs: int | None = None,
        num_splits: int = 5,
        shuffle: bool = True,
        random_seed: int | None = None,
        split_type: str = "random",
        val_split: float | None = 0.2,
        label_key: str = "label",
        group_key: str | None = None,
        train_kwargs: Mapping[str, Any] | None = None,
        test_kwargs: Mapping[str, Any] | None = None,
        splits_file: Path_ | None = None,
        launcher: Any = None,
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        resume: Path_ = "never",
    ) -> KFoldResult:
        """Train and test in every fold; see :func:`delira_nca.experiment.folds.kfold`."""
        from delira_nca.experiment.folds import FoldPlan, kfold

        plan = FoldPlan(
            num_splits, shuffle, random_seed, split_type, val_split, label_key, group_key, splits_file=splits_file
        )
        return kfold(
            self,
            data,
            metrics,
            plan,
            num_epochs=num_epochs,
            train_kwargs=train_kwargs,
            test_kwargs=test_kwargs,
            launcher=launcher,
            metric_keys=metric_keys,
            resume=resume,
        )

    # Files --------------------------------------------------------------------------------------------------------

    def save(self, path: Path_ | None = None) -> Path:
        """Write config, class paths and settings to a ``.json`` or ``.yaml`` file, or into a folder.

        Classes and functions are written as import paths; nothing is pickled.

        Parameters
        ----------
        path : str or path, optional
            File or folder; the folder of the experiment by default.

        Raises
        ------
        ConfigError
            If a value has no import path and is not a plain value, such as an instance or a lambda. The message
            contains its place.
        """
        path = self.folder / FILE if path is None else absolute(path)
        return write_plain(describe_experiment(self), path if path.suffix else path / FILE)

    @classmethod
    def load(cls, path: Path_) -> Experiment:
        """Load an experiment from a file written by :meth:`save`, or from the folder of a run.

        The modules of classes and functions in the file are imported, which executes them: load only trusted files.
        A class that is not derived from the expected base class raises an error.

        Raises
        ------
        MissingFileError, ConfigError
            If there is no such file, or an import path does not exist.
        """
        known = inspect.signature(Experiment.__init__).parameters
        return cls(**read_settings(path, {name: None for name in known if name != "self"}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.model_cls.__name__}, {self.config.flat()})"


BaseExperiment = PyTorchExperiment = Experiment
"""Names of this class in delira."""
