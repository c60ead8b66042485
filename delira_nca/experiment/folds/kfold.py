"""Cross-validation: one training and one test for each fold, here or wherever a launcher runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError, DeliraNCAError
from delira_nca.experiment.experiments.data import as_manager, dataset_of, describe_data, held_out_settings, open_data
from delira_nca.experiment.experiments.description import FILE as EXPERIMENT_FILE
from delira_nca.experiment.experiments.description import describe_experiment, first_difference, newest_folder
from delira_nca.experiment.experiments.ingredients import functions_of
from delira_nca.experiment.folds.plan import FoldPlan, Split
from delira_nca.experiment.folds.result import KFoldResult, is_done, save_predictions
from delira_nca.experiment.parameters.named import decode, encode, import_object
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.experiment.result import RESULT, RunResult
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import claim_folder
from delira_nca.training.batches import each
from delira_nca.training.set_values import count_samples

__all__ = ["FoldJob", "kfold", "run_fold"]

FILE = "kfold.json"
_EXPERIMENT = "delira_nca.experiment.experiments.experiment.Experiment"


@dataclass(frozen=True)
class FoldJob:
    """What all folds have in common.

    Parameters
    ----------
    experiment : to run in each.
    data : opened, see :func:`delira_nca.experiment.experiments.data.open_data`.
    metrics : of the test.
    num_epochs : of each training.
    train_kwargs, test_kwargs : settings of the data managers for training, and for validation and test.
    metric_keys : name of a metric of the test to the names of its arguments.
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
        """Read what :func:`kfold` has written for other processes."""
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
    """Train a network for each fold, and test it on the samples that the fold holds out.

    Every fold begins with the same weights. What it leaves lies in ``<save_path>/<name>/kfold/fold_<n>``: a run, its
    predictions and its result. The same function runs a fold here and in another process.

    Parameters
    ----------
    experiment : to run in each fold.
    data : a data manager, of which each part is a subset with the same settings; or a dataset, a dict of arrays, or
        what names them, see :func:`delira_nca.experiment.experiments.data.open_data`.
    metrics : of the test, see :meth:`~delira_nca.experiment.experiments.experiment.Experiment.test`.
    plan : how the samples are divided.
    num_epochs : of each training; of the config by default.
    train_kwargs, test_kwargs : settings to change in the data managers for training, and in those for validation and
        test, as for ``DataManager.update_state_from_dict``: ``{"transforms": augment}`` and ``{"transforms": None}``.
        Validation and test take each sample once and in order, whatever the data manager does.
    launcher : has ``run(function, tasks, retries=1)``, which calls the function with each task's keyword arguments
        somewhere and returns outcomes with ``value`` and ``error``; see :mod:`delira_nca.experiment.launchers`. None:
        one fold after another, here. Experiment, metrics and data must have names then, which other processes can find.
    metric_keys : of the test, see :meth:`~delira_nca.experiment.experiments.experiment.Experiment.test`.
    resume : ``"never"`` begins, in a new folder; ``"auto"`` goes on with the newest cross-validation of the same
        settings and splits, or begins; the folder of one goes on with that. Folds that are done are not done again.

    Raises
    ------
    ConfigError
        Before anything starts: if the samples cannot be divided so, a launcher is given what has no name, or the folder
        is one of other settings or splits.
    UnknownNameError
        Before anything starts: if a metric is wired to what neither the data nor the network have.
    DeliraNCAError
        If folds failed with the launcher, after the others are done; with the folder to go on with.
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
    """Train and test one fold, or go on with it; of one that is done, return the result.

    Parameters
    ----------
    folder : of the cross-validation.
    fold : its number.
    split : numbers of the samples that it trains on, validates on, and is tested on.
    job : what all folds have in common; None reads it from the folder.

    Returns
    -------
    dict
        Content of ``result.json``: means, and in ``outcome`` the number of the fold and values of each sample.
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
    """Run folds with a launcher, and tell which failed."""
    outcomes = launcher.run(run_fold, tasks, retries=1)
    failed = {number: outcome.error for number, outcome in enumerate(outcomes) if outcome.error is not None}
    if failed:
        lines = "".join(f"\n  fold {number}: {type(error).__name__}: {error}" for number, error in failed.items())
        first = next(iter(failed.values()))
        raise DeliraNCAError(
            f"{len(failed)} of {len(tasks)} folds failed; kfold(..., resume={str(folder)!r}) goes on:{lines}"
        ) from (first if isinstance(first, BaseException) else None)


@contextmanager
def _managers(job: FoldJob, split: Split) -> Iterator[tuple[Any, Any, Any]]:
    """Data managers of a fold, for training, validation (None if there is none) and test; closed at the end."""
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
    """Measure one batch, so that a metric that cannot be computed is found before a fold is trained."""
    with _managers(job, split) as (_, _, test), closing(each(test.get_batchgen())) as batches:
        predictor = job.experiment.predictor(job.experiment.make_network(), job.metrics, job.metric_keys)
        next(predictor.predict(batches), None)


def _described(
    job: FoldJob, splits: list[Split], data: Any, metrics: Mapping[str, Any], *, strict: bool
) -> dict[str, Any]:
    """Everything that another process needs to run a fold."""
    described = describe_experiment(job.experiment, strict=strict)
    parts = {"metrics": dict(metrics), "train_kwargs": job.train_kwargs, "test_kwargs": job.test_kwargs}
    if job.metric_keys:
        parts["metric_keys"] = job.metric_keys
    described |= {name: encode(value, name, strict=strict) for name, value in parts.items()}
    cls = type(job.experiment)
    described["experiment_cls"] = f"{cls.__module__}.{cls.__qualname__}"
    return described | {"epochs": job.num_epochs, "data": _name_of(data, strict), "splits": splits}


def _folder(experiment: Any, described: Mapping[str, Any], resume: Any) -> Path:
    """Folder of the cross-validation: a new one, or one that the same cross-validation has begun."""
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
