"""Run of a config in a folder of a store: building, training, resuming, validation and prediction."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delira_nca.data_loading import DataManager
from delira_nca.errors import ConfigError, MissingFileError, require_choice
from delira_nca.experiment.config import RunConfig, RunParts, Samples, TaskSection, divide, require_same_run
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.experiment.recorder import StatsRecorder
from delira_nca.experiment.result import RESULT, RunResult
from delira_nca.experiment.start import load_start
from delira_nca.experiment.stats import Criterion
from delira_nca.experiment.store import CONFIG_FILES, RunStore, StoredRun
from delira_nca.experiment.trained import AbstractTrainedRun
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import was_made_by_living_process, write_environment
from delira_nca.io.run_lock import is_locked
from delira_nca.logging import JSONLSink
from delira_nca.training.callbacks import Checkpoint, Console, MetricLogger, ProgressBar
from delira_nca.training.distributed import init_from_environment
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import higher_is_better

__all__ = ["Run", "run_from_config"]

_LOGGER = logging.getLogger("delira_nca")
CONFIG, DIRECTORY = "config.yaml", "directory.yaml"


class Run(AbstractTrainedRun):
    """Run of a config in its folder.

    If started by ``torchrun``, the training is distributed over all processes, see
    :mod:`delira_nca.training.distributed`, and rank 0 writes the files.

    Parameters
    ----------
    config : RunConfig
        Config of the run.
    stored : StoredRun
        Folder and statistics of the run.

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

    @classmethod
    def create(cls, config: RunConfig, root: str | os.PathLike[str] = "runs", *, resume: str = "never") -> Run:
        """Build the objects of a run and create its folder, or open the existing run.

        The folder is created after all objects have been built, and removed if the training fails before its first
        iteration. The folder of a process that was killed before its first iteration is reused.

        Parameters
        ----------
        config : RunConfig
            Config of the run. A resumed run keeps the original directory of its relative paths.
        root : str or Path
            Folder of all runs.
        resume : {"never", "auto"}
            Whether to raise an error if a run of this name exists, or to resume it if its config is the same.

        Raises
        ------
        ConfigError
            If a run of this name exists and cannot be resumed. The message lists the differences.
        """
        require_choice("resume", resume, ("never", "auto"))
        config.require_effective()
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
        """Open the run in a folder.

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
        """Train until the last epoch of the config, starting from the newest intact checkpoint in the folder.

        The working directory is that of the config during the training, so that samples can be read from relative
        paths.

        Parameters
        ----------
        resume : str
            ``"auto"``, ``"never"``, or the path of a checkpoint.
        progress : bool
            Whether to show the progress.
        callbacks : sequence
            Callbacks that are registered after those of the config.

        Returns
        -------
        RunResult
            Result of the run, which is also written to ``result.json``.
        """
        try:
            is_path = resume not in ("auto", "never")  # path of a checkpoint, relative to the working directory
            if is_path:
                resume = str(absolute(resume))
                if not os.path.exists(resume):
                    raise MissingFileError(f"there is no {resume} to resume from")
            with self.config.relative_paths():  # samples may be read during the training
                return self._train(resume, progress, callbacks)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and checkpoints_in(self.stored.checkpoints):
                raise KeyboardInterrupt(f"'delira-nca resume {self.folder}' resumes the run") from None
            trainer = self._trainer_at_work
            has_trained = (trainer is not None and trainer.global_iter_num > 0) or checkpoints_in(
                self.stored.checkpoints
            )
            if self._is_new and not has_trained and init_from_environment().is_main:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._is_new, self._trainer_at_work = False, None

    def _train(self, resume: str, progress: bool, callbacks: Sequence[Any]) -> RunResult:
        start = time.perf_counter()
        parts = self._parts or self.config.build()
        self._parts = None  # the next training starts from initial weights
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
        outcome = {k: v for c in parts.callbacks for k, v in getattr(c, "outcome", {}).items()}
        seconds = time.perf_counter() - start
        result = RunResult.of(trainer, self.folder, seconds=seconds, test_scores=tested, outcome=outcome)
        trainer.ranks.on_main(result.write)
        return result

    @property
    def num_epochs(self) -> int:
        """Number of epochs of the run; with ``num_iterations``, an epoch is the interval between two validations."""
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
        """Load the initial weights of the config from another run, unless this run has already started."""
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
        """Create the trainer of the run; without files and callbacks, one for validation and prediction only."""
        section, task = parts.trainer, parts.task
        callbacks = [*parts.callbacks, *more] if files else []
        if files:
            if init_from_environment().size == 1 and not any(isinstance(callback, Console) for callback in callbacks):
                callbacks.append(Console("file", folder=self.folder))
            callbacks += [
                MetricLogger(JSONLSink(self.folder / "metrics.jsonl")),
                StatsRecorder(self.stored, criteria=_criteria(task)),
                Checkpoint(
                    every_iterations=section.save_iterations,
                    every_seconds=section.save_seconds,
                    last=section.keep,
                    best=section.save_best,
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
        """Data managers of training, validation and test; the last two are None without samples."""
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

    # Use of a trained network -----------------------------------------------------------------------------------------

    def network(self, checkpoint: str = "best") -> Any:
        """Load the trained network of the run.

        Parameters
        ----------
        checkpoint : str
            ``"best"``, ``"latest"`` or the name of a file; see :meth:`StoredRun.weights`.

        Raises
        ------
        MissingFileError
            If there is no such checkpoint. The message lists the existing ones.
        CheckpointError
            If the weights do not fit the network of the config.
        """
        return self.stored.load_into(self.config.build_model(), checkpoint)

    def checkpoint(self, name: str = "best") -> Path:
        """File of a checkpoint; see :meth:`StoredRun.checkpoint`."""
        return self.stored.checkpoint(name)

    def _evaluate(self, checkpoint: str, part: str) -> tuple[Any, list[Any], Mapping[str, float]]:
        require_choice("part of the samples", part, ("train", "valid", "test"))
        parts = self.config.build()
        samples = getattr(divide(parts.data, None), part)
        if not samples:
            raise ConfigError(f"the config of run {self.config.name!r} has no samples to {part}")
        network = self.network(checkpoint)
        size = parts.data.val_batch_size or parts.data.batch_size
        data = DataManager(samples, size, seed=self.config.run_seed)
        with self.config.relative_paths(), data as manager:
            return self._trainer(parts, [], network=network, files=False).predict(manager.get_batchgen())


def _make_folder(config: RunConfig, folder: Path, resume: str) -> bool:
    """Create the folder of a run, or use the existing one; return whether the run is new."""
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
        write_run(config, folder)
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return is_new


def write_run(config: RunConfig, folder: Path) -> None:
    """Write the config of a run into its folder, with the versions and the machine at its start."""
    write_environment(folder)
    inside = Path(config.directory) == folder  # a run that needs only its own folder can be moved
    write_plain({"directory": "." if inside else str(config.directory)}, folder / DIRECTORY)
    config.to_file(folder / CONFIG)


def _has_trained(run: StoredRun) -> bool:
    """Whether a run has any results of a training, or a process is training in its folder."""
    left = (run.folder / RESULT).is_file() or bool(checkpoints_in(run.checkpoints))
    return left or is_locked(run.checkpoints) or run.database.trained_until() > 0


def config_of(folder: Path) -> Path:
    """File with the config of a run: one of :data:`~delira_nca.experiment.store.CONFIG_FILES`.

    Raises
    ------
    MissingFileError
        If the folder has neither.
    """
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return folder / name
    what = f"it has none of {', '.join(CONFIG_FILES)}" if folder.is_dir() else "there is no such folder"
    raise MissingFileError(f"there is no run in {folder}: {what}")


def directory_of(folder: Path) -> str | None:
    """Directory to which relative paths in the config of a run are relative, or None if not recorded."""
    found = read_plain(folder / DIRECTORY).get("directory") if (folder / DIRECTORY).is_file() else None
    return str(folder / found) if isinstance(found, str) else None


def _with_directory(config: RunConfig, folder: Path) -> RunConfig:
    """Config with the original directory of relative paths of the run in a folder, if that directory exists."""
    directory = directory_of(folder)
    if directory is None or directory == str(config.directory) or not Path(directory).is_dir():
        return config
    _LOGGER.warning("run %s was begun in %s: its relative paths stay relative to that", folder, directory)
    return RunConfig.from_dict(config.to_dict(), directory)


def _criteria(task: TaskSection) -> list[Criterion]:
    """Criteria with the modes of the metrics and of the score in the config."""
    return [Criterion(name, higher_is_better(mode)) for name, mode in task.directions.items()]


def run_from_config(
    config: RunConfig | Mapping[str, Any] | str | os.PathLike[str],
    root: str | os.PathLike[str] = "runs",
    *,
    resume: str = "auto",
    progress: bool = False,
    directory: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Train or resume the run of a config. Launchers call this function in any process.

    Parameters
    ----------
    config : RunConfig or mapping or str or path
        Config, its values, or its file.
    root : str or path
        Folder of all runs.
    resume : str
        ``"auto"`` to resume an existing run; ``"never"`` to raise an error if it exists.
    progress : bool
        Whether to show the progress.
    directory : str or path
        Folder to which relative paths in values or a file are relative.

    Returns
    -------
    dict
        Entries of :class:`RunResult`.
    """
    if isinstance(config, (str, os.PathLike)):
        config = RunConfig.from_file(config, directory=directory)
    elif not isinstance(config, RunConfig):
        config = RunConfig.from_dict(config, directory)
    return asdict(Run.create(config, root, resume=resume).train(progress=progress))
