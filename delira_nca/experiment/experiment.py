"""Experiments: a config and a model class, out of which runs, tests and folds are made, each in a folder of its own."""

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
from delira_nca.errors import CheckpointError, ConfigError, refuse_unknown_keywords
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
        Network of the best epoch, or of the last where no score decides.
    folder : Path
        Folder of its files.
    history : tuple of dict
        Scores of each epoch.
    best_epoch, best_score : int and float, or None
        Best epoch by the score that decides; None where none does.
    stop_reason : str or None
        Reason why it stopped before its last epoch.
    """

    network: Any
    folder: Path
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    best_score: float | None
    stop_reason: str | None


_OWN = ("num_epochs", "batch_size")
"""Training parameters that are not the trainer's."""

Path_ = str | os.PathLike[str]


class Experiment:
    """Train, test and cross-validate one kind of network, as a config says.

    Parameters
    ----------
    config : Parameters or mapping or str or path
        :class:`Parameters`, ``{"model": {...}, "training": {...}}``, or the path of a file. Those of the model are
        arguments of ``model_cls``, those of the training are arguments of the trainer, ``num_epochs`` and
        ``batch_size``. It is copied, and no method changes it.
    model_cls : type
        Class of the network. Where it has ``from_dict``, that makes it, so that a file can describe all of it.
    name : str, optional
        Of the folder of its runs; the name of the class by default.
    save_path : str or path, optional
        Folder that this one is in; ``runs`` by default.
    val_score_key : str, optional
        Score that decides which epoch is best; None: the last one is.
    val_score_mode : str
        ``"lowest"`` or ``"highest"``: which way the score is better.
    optim_builder : callable
        Called with network, class and parameters; gives the optimizers.
    checkpoint_freq : int
        Number of epochs between two checkpoints. The 2 newest and that of the best epoch are kept; give
        ``callbacks=[functools.partial(Checkpoint, last=0)]`` to keep all.
    trainer_cls : type of AbstractNetworkTrainer
        Trainer, or one derived from it.
    predictor_cls : type of Predictor, optional
        :class:`Predictor`, or one derived from it, for tests.
    checkpoint_seconds : float or str, optional
        Time between two checkpoints, as ``600`` or ``"10m"``: epochs that end sooner are not saved,
        longer ones are saved within.
    **trainer_kwargs : arguments of the trainer that are not in the config. Each run gets copies; callbacks may also be
        classes, or partials of them, which each run makes anew.

    Attributes
    ----------
    last_run : TrainedRun, optional
        :class:`TrainedRun` of the last :meth:`run` or :meth:`resume`; None before the first.

    Raises
    ------
    ConfigError
        If a class is not of the right kind, or an argument is one that the experiment sets itself.

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
    def folder(self) -> Path:
        """Folder of all its runs."""
        return self.save_path / self.name

    # What it is made of -------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Its arguments, as it was made with them."""
        names = [p for p in inspect.signature(Experiment.__init__).parameters if p != "self"]
        return {name: getattr(self, name) for name in names}

    def setup(self, config: Any = None, *, save_path: Path_ | None = None, fold: int = 0) -> Any:
        """Make network and trainer.

        Parameters
        ----------
        config : object
            Values that take the place of those of the experiment, for this time.
        save_path : str or path, optional
            Folder of the checkpoints; None writes none.
        fold : int
            Number of the fold.

        Returns
        -------
        A trainer of ``trainer_cls``, with a network whose first weights are a function of ``training.seed``.

        Raises
        ------
        ConfigError
            If network or trainer cannot be made of the config.
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
        """Fresh network; the same seed makes the same weights, whatever was drawn before.

        Raises
        ------
        ConfigError
            If the model's parameters do not fit its class.
        """
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
        """Seed of everything random: of the first weights, the order of the samples, and the training."""
        return int(self.trainer_kwargs.get("seed", self.config.training.get("seed", 0)))

    def with_config(self, config: Any) -> Experiment:
        """Copy whose config has other values, which take the place of former ones."""
        other = copy.copy(self)
        other.last_run, other.trainer_kwargs = None, dict(self.trainer_kwargs)
        other.config = self.config.with_changes(config)
        return other

    def num_epochs(self, num_epochs: int | None = None) -> int:
        """Epochs of a run: those given, or those of the config.

        Raises
        ------
        ConfigError
            If neither says how many.
        """
        found = self.config.training.get("num_epochs") if num_epochs is None else num_epochs
        if found is None:
            raise ConfigError("how many epochs? Give num_epochs, or training.num_epochs in the config")
        return require_whole("num_epochs", found, 1)

    # Runs ---------------------------------------------------------------------------------------------------------

    def run(
        self, train: Any, val: Any = None, config: Any = None, *, num_epochs: int | None = None, resume: Path_ = "never"
    ) -> Any:
        """Train a new network, in a new folder: ``<save_path>/<name>/run``, ``run-2``, ...

        The folder holds ``experiment.json``, ``data.json``, ``environment.json``, ``metrics.jsonl``, ``metrics.csv``,
        ``checkpoints`` and, when it is done, ``result.json``.

        Parameters
        ----------
        train, val : object
            Data managers, datasets, dicts of arrays, or what names them
            See :func:`~delira_nca.experiment.experiment_settings.open_data`. A data manager with the config's
            ``batch_size`` is made of anything else.
        config : object
            Values that take the place of those of the experiment, for this run.
        num_epochs : int, optional
            Of the config by default.
        resume : str or path
            ``"never"``; ``"auto"``, to go on with the newest run of the same settings, or to begin one where there
            is none; or the folder of a run.

        Returns
        -------
        Network of the best epoch, or of the last where no score decides; see also ``last_run``.

        Raises
        ------
        ConfigError
            Before a folder is made: if network, trainer or data cannot be made.
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
        """Do what :meth:`run` does."""
        return self.run(*args, **kwargs)

    def resume(
        self, run_folder: Path_, train: Any, val: Any = None, *, config: Any = None, num_epochs: int | None = None
    ) -> Any:
        """Go on with a run that was ended, bit for bit as if it had not been; later runs get folders of their own.

        Parameters
        ----------
        run_folder : str or path
            Of the run.
        train, val, config : object
            As it was begun with.
        num_epochs : int, optional
            What the run was begun with by default; more extend it.

        Raises
        ------
        MissingFileError
            If there is no run in the folder.
        ConfigError
            If the run was begun with other settings; the first that differs is named.
        CheckpointError, RunLockedError
            If no checkpoint is sound, or another process works on the run.
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
            Folder of the run; a new one by default.
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
            self.setup(fold=fold)  # fails before there is a folder
            if folder is None:
                folder = claim_folder(self.folder, "run")
                has_trained = lambda: trainer is not None and trainer.global_iter_num > 0  # noqa: E731
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
        """Data manager of data for a while, and None of None.

        See :func:`delira_nca.experiment.experiment_settings.as_manager`.

        Its workers are ended after it, unless it was one already.
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
        """Predict data, and measure each sample by itself.

        Parameters
        ----------
        network : object
            To test; or the folder of a run, whose best network is taken.
        data : object
            As of :meth:`run`.
        metrics : mapping
            Name to a callable, or its import path. It is called with batches of one sample, so that its mean is
            one over samples however they are batched. A metric with update, compute and reset is computed of all
            samples.
        metric_keys : mapping, optional
            Name of a metric to the names of what it is called with; by default those of the training, for a
            metric that has the name of a criterion or metric there, else ``("pred", "label")``.
        test_kwargs : mapping, optional
            Settings of the data manager.
        per_sample : bool
            Whether to return a value for each sample instead of means.

        Returns
        -------
        tuple of (predictions, metrics)
            (N, ...) array, a list of N arrays where shapes differ, or a dict of these where the network has several
            outputs; and means, or (N,) arrays, by name.
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
        """Predictions, metrics of each sample, and metrics of the set; arguments as of :meth:`test`."""
        if isinstance(network, (str, os.PathLike)):
            network = self.load_network(network)
        predictor = self.predictor(network, metrics, metric_keys)
        with self.managed(data, train=False, settings=test_kwargs) as manager:
            return predict_all(predictor, manager.get_batchgen())

    def predictor(
        self, network: Any, metrics: Mapping[str, Any], metric_keys: Mapping[str, tuple[str, ...]] | None = None
    ) -> Predictor:
        """Predictor of a test; arguments as of :meth:`test`."""
        functions = functions_of(metrics, "metrics")
        given = dict(metric_keys or {})
        refuse_unknown_keywords("metric_keys", [name for name in given if name not in functions], functions)
        known = self.trainer_kwargs.get("metric_keys") or self.config.training.get("metric_keys") or {}
        keys = {name: keys for name, keys in {**known, **given}.items() if name in functions}
        predictor_cls = Predictor if self.predictor_cls is None else self.predictor_cls
        return predictor_cls(network, functions, keys, self.seed)

    def load_network(self, run_folder: Path_, *, best: bool = True) -> Any:
        """Network of a run, ready to predict.

        Parameters
        ----------
        run_folder : str or path
            Of the run.
        best : bool
            Whether to take the weights of the best epoch, where a score decided one, and not those of the last.

        Raises
        ------
        MissingFileError, CheckpointError
            If there is no run, or no sound checkpoint in it, or it is of another network.
        """
        folder, network = absolute(run_folder), self.make_network()
        try:
            network.load_state_dict(StoredRun(folder).weights("best" if best else "latest"))
        except (KeyError, RuntimeError) as error:
            name = self.model_cls.__name__
            raise CheckpointError(f"the run in {folder} does not fit a {name} of this config: {error}") from None
        return network.eval()

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
        """Train and test once for each fold; see :func:`delira_nca.experiment.folds.kfold`."""
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

    def save(self, path: Path_) -> Path:
        """Write config, class paths and settings to a ``.json`` or ``.yaml`` file, or to one in a folder.

        Nothing is pickled: classes and functions are written as their import paths.

        Raises
        ------
        ConfigError
            If something has no import path, or is no plain value (an instance, a lambda); with its place.
        """
        path = absolute(path)
        return write_plain(describe_experiment(self), path if path.suffix else path / FILE)

    @classmethod
    def load(cls, path: Path_) -> Experiment:
        """Experiment out of a file of :meth:`save`, or out of the folder of a run.

        The modules of the classes and functions that it names are imported, which runs them: load only what you would
        run. A class is refused that is not derived from what its place asks for.

        Raises
        ------
        MissingFileError, ConfigError
            If there is none, or it names what is not there.
        """
        known = inspect.signature(Experiment.__init__).parameters
        return cls(**read_settings(path, {name: None for name in known if name != "self"}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.model_cls.__name__}, {self.config.flat()})"


BaseExperiment = PyTorchExperiment = Experiment
"""Names of the experiment in delira."""
