"""A run of a config: built, trained, gone on with, validated and predicted, in a folder of a store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delira_nca.data_loading import DataManager
from delira_nca.errors import ConfigError, MissingFileError, require_choice
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.config.changes import require_same_run
from delira_nca.experiment.config.data import Samples, divide
from delira_nca.experiment.config.sections import RunParts, TaskSection
from delira_nca.experiment.folds.result import save_predictions
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.experiment.start import load_start
from delira_nca.experiment.stats import Criterion
from delira_nca.experiment.store import RunStore, StatsRecorder, StoredRun
from delira_nca.io import load_checkpoint
from delira_nca.io.files import replaced
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import was_made_by_living_process, write_environment
from delira_nca.io.run_lock import is_locked
from delira_nca.logging import JSONLSink
from delira_nca.training.callbacks import Checkpoint, MetricLogger, ProgressBar
from delira_nca.training.distributed import init_from_environment
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import higher_is_better
from delira_nca.training.set_values import join_batches

__all__ = ["Run", "RunResult", "run_from_config"]

_LOGGER = logging.getLogger("delira_nca")
CONFIG, RESULT, DIRECTORY = "config.yaml", "result.json", "directory.yaml"


@dataclass(frozen=True)
class RunResult:
    """What became of a run: plain values.

    Attributes
    ----------
    name, folder : of the run.
    num_epochs : that are done.
    best_epoch, best_score : by the score that decides; None where none does.
    scores : of the last epoch.
    test_scores : of the best network on the test samples; empty if there are none.
    seconds : that this process has trained.
    stop_reason : why it ended before its last epoch; None if it did not.
    computation : back end, processor and instruction set of the training.
    """

    name: str
    folder: str
    num_epochs: int
    best_epoch: int | None
    best_score: float | None
    scores: dict[str, float]
    test_scores: dict[str, float]
    seconds: float
    stop_reason: str | None
    computation: dict[str, str]


class Run:
    """A config and the folder that its run lives in.

    Started by ``torchrun``, it trains over all processes as :mod:`delira_nca.training.distributed` says, and the first
    one writes.

    Parameters
    ----------
    config : of the run.
    stored : its folder and its numbers.

    Examples
    --------
    >>> model = {"class_path": "delira_nca.models.build_model", "init_args": {"preset": "growing"}}
    >>> model["init_args"]["changes"] = {"training_timesteps": 2, "inference_timesteps": 2}
    >>> samples = {"class_path": "delira_nca.data_loading.growing_dataset"}
    >>> samples["init_args"] = {"size": 6, "padding": 1, "times": 2}
    >>> task = {"criterions": {"mse": "delira_nca.losses.mse"}}
    >>> config = RunConfig("flower", model, {"train": samples}, task, num_epochs=1)
    >>> run = Run.create(config, getfixture("tmp_path"))
    >>> run.train().num_epochs, Run.open(run.folder).config == config
    (1, True)
    """

    def __init__(self, config: RunConfig, stored: StoredRun) -> None:
        self.config, self.stored = config, stored
        self._parts: RunParts | None = None
        self._is_new = False
        self._trainer_at_work: PyTorchNetworkTrainer | None = None

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.stored.folder

    @classmethod
    def create(cls, config: RunConfig, root: str | os.PathLike[str] = "runs", *, resume: str = "never") -> Run:
        """Build the objects of a run and make its folder, or take up the run that is there.

        The folder is made once everything has been built, and removed if the training ends with an error before its
        first iteration. The folder of a process that was killed before its first iteration is taken over.

        Parameters
        ----------
        config : RunConfig
            Config of the run. A run that is resumed keeps the directory that its relative paths were relative to.
        root : str or Path
            Folder of all runs.
        resume : {"never", "auto"}
            Whether to refuse a run of this name that is there, or to resume it if its config is the same.

        Raises
        ------
        ConfigError
            If a run of this name is there and cannot be resumed; the message says what differs.
        """
        require_choice("resume", resume, ("never", "auto"))
        folder = absolute(root) / config.name
        if resume == "auto":
            config = _with_directory(config, folder)
        parts = config.build()
        divide(parts.data, None)
        is_new = init_from_environment().on_main(_make_folder, config, folder, resume)
        run = cls(config, RunStore(folder.parent).open(folder.name))
        run._parts, run._is_new = parts, is_new
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Take up the run in a folder, as its config says.

        Raises
        ------
        MissingFileError
            If there is no run with a config.
        """
        folder = absolute(folder)
        if not (folder / CONFIG).is_file():
            raise MissingFileError(f"there is no run of a config in {folder}: {CONFIG} is missing")
        config = RunConfig.from_file(folder / CONFIG, directory=directory_of(folder) or ".")
        return cls(config, RunStore(folder.parent).open(folder.name))

    # Training ---------------------------------------------------------------------------------------------------------

    def train(self, *, resume: str = "auto", progress: bool = False, callbacks: Sequence[Any] = ()) -> RunResult:
        """Train to the last epoch of the config, from the newest sound checkpoint of the folder.

        Parameters
        ----------
        resume : ``"auto"``, ``"never"``, or the path of a checkpoint.
        progress : whether to show how far it is.
        callbacks : registered after those of the config.

        Returns
        -------
        RunResult
            It is in ``result.json`` as well.
        """
        try:
            is_path = resume not in ("auto", "never")  # of a checkpoint, relative to the working directory
            with nullcontext() if is_path else self.config.missing_files_explained():
                return self._train(resume, progress, callbacks)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and checkpoints_in(self.stored.checkpoints):
                raise KeyboardInterrupt(f"'delira-nca resume {self.folder}' resumes the run") from None
            has_trained = self._trainer_at_work is not None and self._trainer_at_work.global_iter_num > 0
            if self._is_new and not has_trained and init_from_environment().is_main:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._is_new, self._trainer_at_work = False, None

    def _train(self, resume: str, progress: bool, callbacks: Sequence[Any]) -> RunResult:
        start = time.perf_counter()
        config, parts = self.config, self._parts or self.config.build()
        self._parts = None  # the next training begins with fresh weights
        samples = divide(parts.data, self._samples_per_epoch(parts))
        self._load_start(parts, resume)
        bar = [ProgressBar()] if progress else []
        trainer = self._trainer_at_work = self._trainer(parts, [*callbacks, *bar])
        with self._managers(parts, samples) as (train, valid, test):
            key, mode = parts.task.score, parts.task.mode
            best = trainer.train(self.num_epochs, train, valid, key, mode, val_freq=self._val_freq, resume=resume)
            tested: dict[str, float] = {}
            if test is not None and trainer.stop_reason is None:
                tester = self._trainer(parts, [], network=best, files=False)
                tested = dict(tester.predict(test.get_batchgen())[2])
        result = RunResult(
            name=config.name,
            folder=str(self.folder),
            num_epochs=trainer.start_epoch - 1,
            best_epoch=trainer.best.epoch,
            best_score=trainer.best.score,
            scores={k: float(v) for k, v in trainer.metrics_val.items()},
            test_scores={k: float(v) for k, v in tested.items()},
            seconds=time.perf_counter() - start,
            stop_reason=trainer.stop_reason,
            computation=trainer.computation(),
        )
        trainer.ranks.on_main(_write_result, result)
        return result

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run; with ``num_iterations``, one reaches from validation to validation."""
        if self.config.num_iterations is not None:
            return self.config.num_iterations // int(self.config.validation_interval or 1)
        return int(self.config.num_epochs or 0)

    @property
    def _val_freq(self) -> int:
        return 1 if self.config.num_iterations is not None else int(self.config.validation_interval or 1)

    def _samples_per_epoch(self, parts: RunParts) -> int | None:
        if self.config.num_iterations is None:
            return None
        return int(self.config.validation_interval or 1) * parts.data.batch_size

    def _load_start(self, parts: RunParts, resume: str) -> None:
        """Take up the weights that the config begins with, unless the run has begun before."""
        start = self.config.start_config
        has_begun = resume != "never" and bool(checkpoints_in(self.stored.checkpoints))
        if start is None or has_begun:
            return
        with self.config.relative_paths():
            report = load_start(parts.model, start, self.folder.parent)
        init_from_environment().on_main(write_plain, {"start": str(report)}, self.folder / "start.yaml")

    def _trainer(
        self, parts: RunParts, more: Sequence[Any], *, network: Any = None, files: bool = True
    ) -> PyTorchNetworkTrainer:
        """Trainer of the run; without files and callbacks, one that only validates and predicts."""
        section, task = parts.trainer, parts.task
        callbacks = [*parts.callbacks, *more] if files else []
        if files:
            callbacks += [
                MetricLogger(JSONLSink(self.folder / "metrics.jsonl")),
                StatsRecorder(self.stored, criteria=_criteria(task)),
                Checkpoint(
                    every_iterations=section.save_iterations, every_seconds=section.save_seconds, last=section.keep
                ),
            ]
        return section.trainer_cls(
            parts.model if network is None else network,
            self.stored.checkpoints if files else None,
            task.criterions,
            section.optimizer_cls,
            {"lr": section.lr, **section.optimizer_params},
            task.metrics,
            section.lr_scheduler_cls if files else None,
            section.lr_scheduler_params if files else None,
            save_freq=section.save_freq,
            callbacks=callbacks,
            mixed_precision=section.mixed_precision,
            mixed_precision_kwargs=section.mixed_precision_kwargs,
            metric_keys={name: tuple(keys) for name, keys in task.metric_keys.items()},
            device=section.device,
            seed=self.config.run_seed,
            fold=parts.data.fold,
            **section.options,
        )

    @contextmanager
    def _managers(self, parts: RunParts, samples: Samples) -> Iterator[tuple[DataManager, Any, Any]]:
        """Data managers of training, validation and test; the last two are None where there are no samples."""
        section, seed = parts.data, self.config.run_seed
        with ExitStack() as stack:
            train = DataManager(
                samples.train,
                section.batch_size,
                section.num_workers,
                section.transforms,
                section.sampler_cls,
                section.drop_last,
                seed=seed,
                **samples.sampler_kwargs,
            )
            size = section.val_batch_size or section.batch_size
            held_out = [DataManager(part, size, seed=seed) if part else None for part in (samples.valid, samples.test)]
            for manager in (train, *held_out):
                if manager is not None:
                    stack.enter_context(manager)
            yield train, held_out[0], held_out[1]

    # What a trained network does --------------------------------------------------------------------------------------

    def network(self, checkpoint: str = "best") -> Any:
        """Trained network of the run, for use.

        Parameters
        ----------
        checkpoint : ``"best"``, where a score decides, ``"latest"``, or the name of a file in the run's checkpoints.

        Raises
        ------
        MissingFileError
            If there is no such checkpoint; the message names those that are there.
        """
        network = self.config.build_model()
        network.load_state_dict(load_checkpoint(self.checkpoint(checkpoint))["network"])
        return network.eval()

    def checkpoint(self, name: str = "best") -> Path:
        """File of a checkpoint: ``"best"``, the latest if no score decides; ``"latest"``; or the name of the file."""
        folder = self.stored.checkpoints
        if name == "best":
            found = [file for file in checkpoints_in(folder) if file.stem == "checkpoint_best"]
            return max(found, key=lambda file: file.stat().st_mtime) if found else self.checkpoint("latest")
        if name == "latest":
            latest = self.stored.latest_checkpoint()
            if latest is None:
                raise MissingFileError(f"run {self.folder} holds no checkpoint yet")
            return latest
        if not (folder / name).is_file():
            there = ", ".join(file.name for file in checkpoints_in(folder)) or "none"
            raise MissingFileError(f"there is no checkpoint {name!r} in {folder}; there: {there}")
        return folder / name

    def validate(self, checkpoint: str = "best", *, part: str = "valid") -> dict[str, float]:
        """Losses and metrics of a checkpoint on a part of the samples, means over these.

        Parameters
        ----------
        checkpoint : see :meth:`network`.
        part : ``"train"``, ``"valid"`` or ``"test"``.
        """
        return {name: float(value) for name, value in self._evaluate(checkpoint, part)[2].items()}

    def predict(self, out: str | os.PathLike[str], checkpoint: str = "best", *, part: str = "test") -> Path:
        """Write what a checkpoint predicts on a part of the samples.

        Parameters
        ----------
        out : str or Path
            File: a ``.npy`` of one array (num_samples, ...), or a ``.npz``, which also holds samples that differ in
            shape (``sample_0``, ...) and several outputs (``<output>/predictions``).

        Raises
        ------
        ConfigError
            For another ending, if there are no such samples, or if they make no array for a ``.npy``.
        """
        out = absolute(out)
        if out.suffix.lower() not in (".npy", ".npz"):
            raise ConfigError(f"predictions are written to a .npy or .npz file, not to {out.name!r}")
        predictions = self._evaluate(checkpoint, part)[0]
        if out.suffix.lower() == ".npz":
            arrays = join_batches(predictions, split=True) if isinstance(predictions, list) else predictions
            save_predictions(arrays, out)
            return out
        if not isinstance(predictions, np.ndarray):
            what = "differ in shape" if isinstance(predictions, list) else f"have outputs {sorted(predictions)}"
            raise ConfigError(f"the predictions of {part!r} {what}, so that they make no array: write a .npz")
        with replaced(out) as temporary, temporary.open("wb") as file:
            np.save(file, predictions)
        return out

    def _evaluate(self, checkpoint: str, part: str) -> tuple[Any, list[Any], Mapping[str, float]]:
        require_choice("part of the samples", part, ("train", "valid", "test"))
        parts = self.config.build()
        samples = getattr(divide(parts.data, None), part)
        if not samples:
            raise ConfigError(f"the config of run {self.config.name!r} has no samples to {part}")
        network = self.network(checkpoint)
        size = parts.data.val_batch_size or parts.data.batch_size
        data = DataManager(samples, size, seed=self.config.run_seed)
        with self.config.missing_files_explained(), data as manager:
            return self._trainer(parts, [], network=network, files=False).predict(manager.get_batchgen())


def _make_folder(config: RunConfig, folder: Path, resume: str) -> bool:
    """Make the folder of a run, or take the one that is there, and say whether its run is a new one."""
    store = RunStore(folder.parent)
    is_left = folder.name in store and not (folder / "config.json").is_file()
    is_left = is_left and not was_made_by_living_process(folder) and not _has_trained(store.open(folder.name))
    is_new = is_left or not (folder / CONFIG).is_file()
    if is_left:
        _LOGGER.info("%s is taken over: the process that made it was killed before it trained", folder)
    elif is_new:
        store.create(folder.name, exist="resume" if resume == "auto" else "error")
    elif resume == "auto":
        require_same_run(RunConfig.from_file(folder / CONFIG), config, folder)
    else:
        raise ConfigError(
            f"{folder} already holds a run: take another name, or resume it (resume='auto' in Python, --resume auto on "
            "the command line)"
        )
    try:
        write_environment(folder)
        write_plain({"directory": str(config.directory)}, folder / DIRECTORY)
        config.to_file(folder / CONFIG)
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return is_new


def _has_trained(run: StoredRun) -> bool:
    """Whether a run has left anything that a training computed, or a process trains in its folder."""
    left = (run.folder / RESULT).is_file() or bool(checkpoints_in(run.checkpoints))
    return left or is_locked(run.checkpoints) or run.database.trained_until() > 0


def config_of(folder: Path) -> Path:
    """File with the config of a run: ``config.yaml``, or ``config.json`` of what other commands train.

    Raises
    ------
    MissingFileError
        If the folder has neither.
    """
    for name in (CONFIG, "config.json"):
        if (folder / name).is_file():
            return folder / name
    what = "it has neither config.yaml nor config.json" if folder.is_dir() else "there is no such folder"
    raise MissingFileError(f"there is no run in {folder}: {what}")


def directory_of(folder: Path) -> str | None:
    """Directory that the relative paths of a run's config are relative to; None if it is not recorded."""
    return read_plain(folder / DIRECTORY).get("directory") if (folder / DIRECTORY).is_file() else None


def _with_directory(config: RunConfig, folder: Path) -> RunConfig:
    """Config with the directory that the run in a folder was begun with, if that directory is still there."""
    directory = directory_of(folder)
    if directory is None or directory == str(config.directory) or not Path(directory).is_dir():
        return config
    _LOGGER.warning("run %s was begun in %s: its relative paths stay relative to that", folder, directory)
    return RunConfig.from_dict(config.to_dict(), directory)


def _write_result(result: RunResult) -> None:
    with replaced(Path(result.folder) / RESULT) as temporary:
        temporary.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


def _criteria(task: TaskSection) -> list[Criterion]:
    """Directions of the metrics that the config tells, beside that of the score that decides."""
    return [Criterion(name, higher_is_better(mode)) for name, mode in task.directions.items()]


def run_from_config(
    config: RunConfig | Mapping[str, Any] | str | os.PathLike[str],
    root: str | os.PathLike[str] = "runs",
    *,
    resume: str = "auto",
    progress: bool = False,
    directory: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Train the run of a config, from where it stands: what launchers call, in whatever process.

    Parameters
    ----------
    config : a config, its values, or its file.
    root : folder of all runs.
    resume : ``"auto"`` goes on with a run that is there; ``"never"`` refuses it.
    progress : whether to show how far it is.
    directory : folder that relative paths in values or a file are relative to.

    Returns
    -------
    dict
        The entries of :class:`RunResult`.
    """
    if isinstance(config, (str, os.PathLike)):
        config = RunConfig.from_file(config, directory=directory)
    elif not isinstance(config, RunConfig):
        config = RunConfig.from_dict(config, directory)
    return asdict(Run.create(config, root, resume=resume).train(progress=progress))
