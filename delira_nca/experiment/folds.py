"""Cross-validation: training and test of each fold, in this process or with a launcher."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import Indices
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.labels import as_labels
from delira_nca.data_loading.readers.cases import shown
from delira_nca.data_loading.readers.splits_file import read_splits
from delira_nca.data_loading.splits import kfold_indices, require_group_key, train_val_indices
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError
from delira_nca.experiment.experiment_settings import FILE as EXPERIMENT_FILE
from delira_nca.experiment.experiment_settings import (
    as_manager,
    dataset_of,
    describe_data,
    describe_experiment,
    first_difference,
    functions_of,
    held_out_settings,
    newest_folder,
    open_data,
)
from delira_nca.experiment.import_paths import decode, encode, import_object
from delira_nca.experiment.launchers.serial import SerialLauncher
from delira_nca.experiment.plain_files import as_table, read_plain, write_plain
from delira_nca.experiment.result import RESULT, RunResult
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import claim_folder
from delira_nca.training.batches import each
from delira_nca.training.set_values import count_samples
from delira_nca.workers import require_importable_main

__all__ = [
    "FoldJob",
    "FoldPlan",
    "FoldResult",
    "KFoldResult",
    "Split",
    "is_done",
    "kfold",
    "load_predictions",
    "run_fold",
    "save_predictions",
]

Split = dict[str, list[int]]
"""Indices of the samples of the parts ``"train"``, ``"val"`` and ``"test"``."""


@dataclass(frozen=True)
class FoldPlan:
    """Definition of the folds.

    Parameters
    ----------
    num_splits, shuffle, random_seed, split_type
        See :func:`delira_nca.data_loading.splits.kfold_indices`.
    val_split : float or int, optional
        Fraction, or number, of the training samples of a fold used for validation (of groups, in a grouped split); None
        or 0 for none.
    label_key, group_key : str
        Entries of a sample with its class, for a stratified split, and with its group, for a grouped split or a
        stratified one that keeps groups together.
    splits_file : str or path, optional
        File with the names of the samples of each fold, see
        :func:`delira_nca.data_loading.readers.splits_file.read_splits`. It defines the number of folds; the split type
        then applies only to the validation part.

    Examples
    --------
    >>> from delira_nca.data_loading import DictDataset
    >>> cases = DictDataset({"x": np.arange(6), "label": [0, 0, 0, 1, 1, 1]})
    >>> for split in FoldPlan(3, split_type="stratified", val_split=2).splits(cases):
    ...     print({part: len(numbers) for part, numbers in split.items()})
    {'train': 2, 'val': 2, 'test': 2}
    {'train': 2, 'val': 2, 'test': 2}
    {'train': 2, 'val': 2, 'test': 2}
    """

    num_splits: int = 5
    shuffle: bool = True
    random_seed: int | None = None
    split_type: str = "random"
    val_split: float | int | None = 0.2
    label_key: str = "label"
    group_key: str | None = None
    splits_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        require_group_key(self.split_type, self.group_key)
        if self.split_type == "grouped" and self.group_key is None:
            raise ConfigError("a grouped split needs group_key, the name of the entry that holds the group of a sample")
        if self.splits_file is not None:
            object.__setattr__(self, "splits_file", absolute(self.splits_file))

    def splits(self, dataset: AbstractDataset) -> list[Split]:
        """Parts of every fold, which are disjoint. Without a file, each sample is tested in exactly one fold."""
        values: dict[str, Any] = {}
        if self.split_type == "stratified":
            values["labels"] = dataset.column(self.label_key)
        if self.group_key is not None:
            values["groups"] = as_labels(dataset.column(self.group_key), "group")
        chosen: dict[str, Any] = {"split_type": self.split_type, "random_seed": self.random_seed}
        if self.splits_file is not None:
            folds = read_splits(self.splits_file, dataset)
        else:
            folds = kfold_indices(len(dataset), self.num_splits, shuffle=self.shuffle, **chosen, **values)
        found: list[Split] = []
        for number, (train, test) in enumerate(folds):
            if both := _shared(values.get("groups"), train, test):
                raise ConfigError(f"fold {number} trains on and is tested on the same groups: {shown(both)}")
            val = np.empty(0, np.int64)
            if self.val_split:
                of_train = {name: column[train] for name, column in values.items()}
                kept, held = train_val_indices(len(train), self.val_split, **chosen, **of_train)
                train, val = train[kept], train[held]
            found.append({"train": train.tolist(), "val": val.tolist(), "test": test.tolist()})
        return found


def _shared(groups: npt.NDArray[Any] | None, train: Indices, test: Indices) -> list[Any]:
    """Groups that are in both parts, which is possible with a file of folds."""
    if groups is None:
        return []
    return sorted(set(groups[train].tolist()) & set(groups[test].tolist()), key=str)


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FoldResult:
    """Result of one fold.

    Attributes
    ----------
    fold : int
        Number of the fold, from 0.
    folder : str or path
        Folder of the run, for example for ``Experiment.load_network``.
    indices : tuple of int
        Indices of the test samples.
    metrics : mapping of str to float
        Means over the test samples, by name.
    per_sample : mapping
        Values of each test sample, by name.
    best_epoch, best_score : int and float, optional
        Best epoch and its score; None if no score is given.
    """

    fold: int
    folder: Path
    indices: tuple[int, ...]
    metrics: Mapping[str, float]
    per_sample: Mapping[str, tuple[float, ...]]
    best_epoch: int | None
    best_score: float | None

    @property
    def predictions(self) -> Any:
        """Read the predictions of the test samples, in the order of ``indices``, from the folder."""
        return load_predictions(self.folder / "predictions.npz")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FoldResult:
        """Read the result of a finished fold from its folder.

        Raises
        ------
        MissingFileError
            If the fold is not finished.
        """
        folder = absolute(folder)
        if not is_done(folder):
            raise MissingFileError(f"the fold in {folder} is not done: it has no result of a test")
        found = read_plain(folder / RESULT)
        test = found.get("outcome", found)  # version 0.1 had no other values
        return cls(
            fold=test["fold"],
            folder=folder,
            indices=tuple(test["indices"]),
            metrics=found["test_scores"] if test is not found else found["metrics"],
            per_sample={name: tuple(row) for name, row in test["per_sample"].items()},
            best_epoch=found["best_epoch"],
            best_score=found["best_score"],
        )


@dataclass(frozen=True)
class KFoldResult:
    """Results of all folds. Its text is a table.

    Attributes
    ----------
    folder : str or path
        Parent folder of the folds.
    folds : tuple of FoldResult
        Results in the order of the folds.
    """

    folder: Path
    folds: tuple[FoldResult, ...]

    @property
    def metrics(self) -> dict[str, tuple[float, ...]]:
        """Mean of every fold, by metric."""
        return {name: tuple(fold.metrics[name] for fold in self.folds) for name in self.folds[0].metrics}

    @property
    def mean(self) -> dict[str, float]:
        """Mean over folds, by metric."""
        return {name: statistics.fmean(values) for name, values in self.metrics.items()}

    @property
    def std(self) -> dict[str, float]:
        """Standard deviation over folds, with Bessel's correction; NaN for a single fold."""
        return {n: statistics.stdev(v) if len(v) > 1 else float("nan") for n, v in self.metrics.items()}

    def per_sample(self, metric: str) -> dict[int, float]:
        """Value of every test sample by its index.

        Raises
        ------
        ConfigError
            If a sample was tested in two folds, which is possible with a file of folds.
        """
        pairs = [pair for fold in self.folds for pair in zip(fold.indices, fold.per_sample[metric], strict=True)]
        values = dict(sorted(pairs))
        if len(values) < len(pairs):
            raise ConfigError("a sample was tested in several folds: it has no single value")
        return values

    def table(self) -> str:
        """Table of the means of all folds, and of the mean and standard deviation over folds."""
        names = list(self.metrics)
        rows = [["fold", "tested", "best epoch", *names]]
        for fold in self.folds:
            epoch = "-" if fold.best_epoch is None else str(fold.best_epoch)
            rows.append([str(fold.fold), str(len(fold.indices)), epoch, *(f"{fold.metrics[n]:.4f}" for n in names)])
        rows.append(["mean", "", "", *(f"{self.mean[name]:.4f}" for name in names)])
        rows.append(["std", "", "", *(f"{self.std[name]:.4f}" for name in names)])
        return as_table(rows, right=True)

    __str__ = table

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> KFoldResult:
        """Read the results of all folds in a folder, which must be finished.

        Raises
        ------
        MissingFileError
            If there are no folds, or one is not finished.
        """
        folder = absolute(folder)
        if not (folder / "kfold.json").is_file():
            raise MissingFileError(f"there are no folds in {folder}: it has no kfold.json")
        count = len(read_plain(folder / "kfold.json")["splits"])
        return cls(folder, tuple(FoldResult.load(folder / f"fold_{number}") for number in range(count)))


def is_done(folder: Path) -> bool:
    """Whether a fold has been tested."""
    if not (folder / RESULT).is_file():
        return False
    found = read_plain(folder / RESULT)
    return "per_sample" in found.get("outcome", found)


def save_predictions(predictions: Any, path: Path) -> None:
    """Write predictions to an ``.npz`` file: an array, a list of arrays of different shapes, or a dict of these.

    The names are ``predictions``, or ``sample_0``, ``sample_1``, ..., with the prefix ``<output>/`` for a dict.
    """
    from delira_nca.io.files import replaced

    with replaced(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_named(predictions, ""))  # type: ignore[arg-type]


def _named(predictions: Any, place: str) -> dict[str, Array]:
    if isinstance(predictions, dict):
        named = (_named(part, f"{place}{name}/") for name, part in predictions.items())
        return {name: array for part in named for name, array in part.items()}
    if isinstance(predictions, list):
        return {f"{place}sample_{number}": sample for number, sample in enumerate(predictions)}
    return {f"{place}predictions": predictions}


def load_predictions(path: Path) -> Any:
    """Read the predictions written by :func:`save_predictions`."""
    with np.load(path, allow_pickle=False) as arrays:
        return _nested({name: np.asarray(arrays[name]) for name in arrays.files})


def _nested(named: dict[str, Array]) -> Any:
    if "predictions" in named:
        return named["predictions"]
    if "sample_0" in named:
        return [named[f"sample_{number}"] for number in range(len(named))]
    parts: dict[str, dict[str, Array]] = {}
    for name, array in named.items():
        output, _, rest = name.partition("/")
        parts.setdefault(output, {})[rest] = array
    return {output: _nested(part) for output, part in parts.items()}


FILE = "kfold.json"
_EXPERIMENT = "delira_nca.experiment.experiment.Experiment"


@dataclass(frozen=True)
class FoldJob:
    """Settings shared by all folds.

    Parameters
    ----------
    experiment : Experiment
        Experiment to run in each fold.
    data : object
        Opened data, see :func:`delira_nca.experiment.experiment_settings.open_data`.
    metrics : mapping
        Metrics of the test.
    num_epochs : int
        Number of epochs of each training.
    train_kwargs, test_kwargs : mapping
        Settings of the data managers for training, and for validation and test.
    metric_keys : mapping
        Names of the arguments of a metric by its name.
    """

    experiment: Any
    data: Any
    metrics: Mapping[str, Any]
    num_epochs: int
    train_kwargs: Mapping[str, Any]
    test_kwargs: Mapping[str, Any]
    metric_keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> FoldJob:
        """Read the settings that :func:`kfold` has written for other processes."""
        described = read_plain(folder / FILE)
        cls_of = import_object(described.get("experiment_cls", _EXPERIMENT), "experiment_cls")
        names = ("data", "metrics", "train_kwargs", "test_kwargs", "metric_keys")
        job = decode({name: described[name] for name in names if name in described}, "kfold")
        job["data"] = open_data(job["data"])
        return cls(experiment=cls_of.load(folder), num_epochs=described["epochs"], **job)


def kfold(
    experiment: Any,
    data: Any,
    metrics: Mapping[str, Any],
    plan: FoldPlan,
    *,
    num_epochs: int | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    test_kwargs: Mapping[str, Any] | None = None,
    launcher: Any = None,
    metric_keys: Mapping[str, tuple[str, ...]] | None = None,
    resume: str | os.PathLike[str] = "never",
) -> KFoldResult:
    """Train a network for each fold, and test it on the held-out samples.

    All folds start from the same weights. The run, the predictions and the result of a fold are written to
    ``<save_path>/<name>/kfold/fold_<n>``. Folds are run by the same function in this and in other processes.

    Parameters
    ----------
    experiment : Experiment
        Experiment to run in each fold.
    data : object
        Data manager, of which each part is a subset with the same settings; or a dataset, a dict of arrays, or their
        path, see :func:`delira_nca.experiment.experiment_settings.open_data`.
    metrics : mapping
        Metrics of the test, see :meth:`~delira_nca.experiment.experiment.Experiment.test`.
    plan : FoldPlan
        Definition of the folds.
    num_epochs : int, optional
        Number of epochs of each training; that of the config by default.
    train_kwargs, test_kwargs : mapping, optional
        Changed settings of the data managers for training, and of those for validation and test, as for
        ``DataManager.update_state_from_dict``: ``{"transforms": augment}`` and ``{"transforms": None}``. Validation and
        test always use each sample once and in order.
    launcher : object
        Object with ``run(function, tasks, retries=1)``, which calls the function with the keyword arguments of each
        task and returns outcomes with ``value`` and ``error``; see :mod:`delira_nca.experiment.launchers`. Experiment,
        metrics and data must then be importable or paths. If None, folds run one after another in this process.
    metric_keys : mapping, optional
        See :meth:`~delira_nca.experiment.experiment.Experiment.test`.
    resume : str or path
        ``"never"`` to start in a new folder; ``"auto"`` to resume the newest cross-validation with the same settings
        and splits, or to start one; or the folder of a cross-validation to resume. Finished folds are not repeated.

    Raises
    ------
    ConfigError
        Before the first fold, if the samples cannot be split, objects for a launcher are not importable, or the
        settings or splits in the folder differ.
    UnknownNameError
        Before the first fold, if ``metric_keys`` contains names that neither the data nor the network provide.
    DeliraNCAError
        If folds failed with the launcher, after the others have finished. The message contains the folder to resume.
    """
    opened = open_data(data)
    job = FoldJob(
        experiment,
        opened,
        functions_of(metrics, "metrics"),
        experiment.num_epochs(num_epochs),
        dict(train_kwargs or {}),
        dict(test_kwargs or {}),
        {name: list(keys) for name, keys in (metric_keys or {}).items()},
    )
    splits = plan.splits(dataset_of(opened))
    experiment.setup()
    described = _described(job, splits, data, metrics, strict=launcher is not None)
    _check_test(job, splits[0])
    if launcher is not None and not isinstance(launcher, SerialLauncher):
        targets = [import_object(path) for path in _texts(described) if path.startswith("__main__.")]
        require_importable_main((run_fold, targets), "the cross-validation")
    folder = _folder(experiment, described, resume)
    write_plain(describe_experiment(experiment, strict=launcher is not None), folder / EXPERIMENT_FILE)
    write_plain(described, folder / FILE)
    tasks: list[dict[str, Any]] = [
        {"folder": str(folder), "fold": number, "split": split} for number, split in enumerate(splits)
    ]
    if launcher is None:
        for task in tasks:
            run_fold(**task, job=job)
    else:
        _launch(launcher, tasks, folder)
    return KFoldResult.load(folder)


def run_fold(folder: str, fold: int, split: Split, job: FoldJob | None = None) -> dict[str, Any]:
    """Train and test one fold, or resume it; return the result of a finished fold.

    Parameters
    ----------
    folder : str
        Folder of the cross-validation.
    fold : int
        Number of the fold.
    split : dict of str to list of int
        Indices of the samples for training, validation and test.
    job : FoldJob, optional
        Settings shared by all folds; read from the folder by default.

    Returns
    -------
    dict
        Content of ``result.json``: means, and in ``outcome`` the number of the fold and the values of each sample.
    """
    place = Path(folder) / f"fold_{fold}"
    if is_done(place):
        return read_plain(place / RESULT)
    job = FoldJob.load(Path(folder)) if job is None else job
    place.mkdir(exist_ok=True)
    with _managers(job, split) as (train, val, test):
        run = job.experiment.train_in(place, train, val, job.num_epochs, fold=fold)
        predictions, values, means = job.experiment.measure(run.network, test, job.metrics, metric_keys=job.metric_keys)
    count = count_samples(predictions)
    if count != len(split["test"]):
        raise ConfigError(
            f"fold {fold} has {len(split['test'])} samples to test on, but {count} were predicted: the "
            "transforms of test_kwargs must keep every sample"
        )
    save_predictions(predictions, place / "predictions.npz")
    per_sample = {name: row.tolist() for name, row in values.items()}
    outcome = {"fold": fold, "indices": split["test"], "per_sample": per_sample}
    replace(RunResult.load(place), test_scores=means, outcome=outcome).write()
    return read_plain(place / RESULT)


def _launch(launcher: Any, tasks: list[dict[str, Any]], folder: Path) -> None:
    """Run folds with a launcher; raise an error that lists the failed ones."""
    outcomes = launcher.run(run_fold, tasks, retries=1)
    failed = {number: outcome.error for number, outcome in enumerate(outcomes) if outcome.error is not None}
    if failed:
        lines = "".join(f"\n  fold {number}: {type(error).__name__}: {error}" for number, error in failed.items())
        first = next(iter(failed.values()))
        raise DeliraNCAError(
            f"{len(failed)} of {len(tasks)} folds failed; kfold(..., resume={str(folder)!r}) continues:{lines}"
        ) from (first if isinstance(first, BaseException) else None)


@contextmanager
def _managers(job: FoldJob, split: Split) -> Iterator[tuple[Any, Any, Any]]:
    """Data managers of a fold for training, validation (or None) and test, which are closed at the end."""
    held_out = held_out_settings(job.test_kwargs)
    with ExitStack() as stack:

        def manager(part: str, settings: Mapping[str, Any]) -> Any:
            if not split[part]:
                return None
            experiment, data = job.experiment, job.data.get_subset(split[part])
            batch_size = experiment.config.training.get("batch_size")
            made = as_manager(data, batch_size, experiment.seed, train=part == "train", settings=settings)
            return stack.enter_context(closing(made))

        yield manager("train", job.train_kwargs), manager("val", held_out), manager("test", held_out)


def _check_test(job: FoldJob, split: Split) -> None:
    """Evaluate the metrics on one batch, so that errors are raised before a fold is trained."""
    with _managers(job, split) as (_, _, test), closing(each(test.get_batchgen())) as batches:
        predictor = job.experiment.predictor(job.experiment.make_network(), job.metrics, job.metric_keys)
        next(predictor.predict(batches), None)


def _described(
    job: FoldJob, splits: list[Split], data: Any, metrics: Mapping[str, Any], *, strict: bool
) -> dict[str, Any]:
    """Description from which another process can run a fold."""
    described = describe_experiment(job.experiment, strict=strict)
    parts = {"metrics": dict(metrics), "train_kwargs": job.train_kwargs, "test_kwargs": job.test_kwargs}
    if job.metric_keys:
        parts["metric_keys"] = job.metric_keys
    described |= {name: encode(value, name, strict=strict) for name, value in parts.items()}
    cls = type(job.experiment)
    described["experiment_cls"] = f"{cls.__module__}.{cls.__qualname__}"
    return described | {"epochs": job.num_epochs, "data": _name_of(data, strict), "splits": splits}


def _texts(values: Any) -> Iterator[str]:
    """Yield all strings in nested plain values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _texts(value)


def _folder(experiment: Any, described: Mapping[str, Any], resume: Any) -> Path:
    """Folder of the cross-validation: a new one, or that of the resumed cross-validation."""
    if resume == "never":
        return claim_folder(experiment.folder, "kfold")
    if resume == "auto":
        return newest_folder(experiment.folder, "kfold", described, FILE) or claim_folder(experiment.folder, "kfold")
    folder = absolute(resume)
    if not (folder / FILE).is_file():
        raise ConfigError(f"there is no cross-validation to resume in {folder}: it has no {FILE}")
    if difference := first_difference(described, read_plain(folder / FILE)):
        raise ConfigError(f"the cross-validation in {folder} is another one: {difference}")
    return folder


def _name_of(data: Any, strict: bool) -> Any:
    try:
        return describe_data(data)
    except ConfigError:
        if strict:
            raise
        dataset: AbstractDataset = dataset_of(open_data(data))
        return {"class_path": None, "was": f"a {type(data).__name__} of {len(dataset)} samples"}
