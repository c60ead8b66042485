"""Configs of runs: immutable plain values, which are validated as a whole and have a digest."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from delira_nca.checks import is_whole
from delira_nca.data_loading import AbstractDataset, AbstractSampler, RandomSampler, kfold, train_val_split
from delira_nca.data_loading.labels import as_labels
from delira_nca.data_loading.readers.cases import shown
from delira_nca.data_loading.splits import require_group_key
from delira_nca.errors import ConfigError, MissingFileError, did_you_mean, nearest_name
from delira_nca.experiment.plain_files import differences, parse_yaml, read_plain, split_arguments, write_plain
from delira_nca.experiment.start import StartConfig
from delira_nca.experiment.validation import build_part, check_part
from delira_nca.io.paths import absolute, working_in
from delira_nca.io.run_folder import require_folder_name
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.schedule import ScheduleCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.schedules import Schedule
from delira_nca.training.scores import higher_is_better

__all__ = [
    "DataSection",
    "RunConfig",
    "RunParts",
    "Samples",
    "TaskSection",
    "TrainerSection",
    "differences",
    "divide",
    "override",
    "parse_overrides",
    "require_same_run",
]


@dataclass(frozen=True)
class TaskSection:
    """Criterions, metrics and score of a training.

    Parameters
    ----------
    criterions : dict of str to callable
        Loss functions by name, the sum of which is minimised. If empty, the network's own loss is used.
    metrics : dict of str to callable
        Functions by name that are measured but not minimised.
    metric_keys : dict
        Names of the arguments of a criterion or metric by its name.
    score : str, optional
        Score that selects the best epoch; that of validation if there is one. If None, the last epoch is used.
    mode : str
        Whether the ``"lowest"`` or the ``"highest"`` score is the best.
    directions : dict of str to str
        Modes of the other metrics by name. For losses, lower is better.
    """

    criterions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metrics: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metric_keys: dict[str, list[str]] = field(default_factory=dict)
    score: str | None = None
    mode: str = "lowest"
    directions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """Samples for training, validation and test.

    Parameters
    ----------
    train : AbstractDataset
        Samples for training; if ``num_splits`` is set, the samples of all folds.
    valid, test : AbstractDataset, optional
        Samples for validation and test.
    val_split : float
        Fraction, or number, of training samples used for validation; 0 for none.
    num_splits, fold : int
        Number of folds of the training samples, and number of the fold used for the test, from 0.
    split_type : str
        Type of both splits: ``"random"``, ``"stratified"`` or ``"grouped"``.
    label_key, group_key : str
        Entries of a sample with its class and its group. A stratified split with ``group_key`` keeps groups together; a
        random one does not allow it.
    split_seed : int
        Seed of the splits, separate from that of the run, so that runs with different seeds have the same folds.
    batch_size : int
        Number of samples per training batch.
    val_batch_size : int, optional
        Number of samples per batch in validation and test; ``batch_size`` by default.
    num_workers : int
        Number of worker processes that build batches.
    transforms : callable, optional
        Transforms of training batches.
    sampler_cls : type of AbstractSampler
        Class of the sampler for training.
    drop_last : bool
        Whether to drop an incomplete last training batch.
    """

    train: AbstractDataset
    valid: AbstractDataset | None = None
    test: AbstractDataset | None = None
    val_split: float = 0.0
    num_splits: int = 0
    fold: int = 0
    split_type: str = "random"
    label_key: str = "label"
    group_key: str | None = None
    split_seed: int = 0
    batch_size: int = 1
    val_batch_size: int | None = None
    num_workers: int = 0
    transforms: Callable[..., Any] | None = None
    sampler_cls: type[AbstractSampler] = RandomSampler
    drop_last: bool = False


@dataclass(frozen=True)
class TrainerSection:
    """Trainer, optimizer, checkpoints and device.

    Parameters
    ----------
    trainer_cls : type of PyTorchNetworkTrainer
        Class of the trainer.
    optimizer_cls, lr, optimizer_params
        Class of the optimizer, learning rate, and further arguments of the optimizer.
    lr_scheduler_cls, lr_scheduler_params : type, optional and dict
        Class and arguments of a torch scheduler, which is stepped once per epoch, or of a callback.
    save_freq : int
        Number of epochs between two checkpoints; 0 writes none. The last epoch is always saved.
    save_iterations : int
        Number of iterations between two additional checkpoints; 0 writes none.
    save_seconds : float or str, optional
        Time between two checkpoints, such as ``600`` (seconds) or ``"10m"``. Shorter epochs are not all saved; longer
        ones are also saved between batches. If None, only ``save_freq`` is used.
    keep : int
        Number of newest checkpoints to keep, in addition to that of the best epoch; 0 keeps all.
    save_best : bool
        Whether to also write a checkpoint of the best epoch. Every checkpoint contains the best weights.
    mixed_precision, mixed_precision_kwargs : bool and dict, optional
        Whether to train with mixed precision, and its options; see :class:`delira_nca.models.precision.Precision`.
    device : str
        Device: ``auto`` (a GPU if available), ``cpu``, ``cuda``, ...
    options : dict
        Further arguments of ``trainer_cls``.
    """

    trainer_cls: type[PyTorchNetworkTrainer] = PyTorchNetworkTrainer
    optimizer_cls: type[torch.optim.Optimizer] = torch.optim.Adam
    lr: float = 1e-3
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    lr_scheduler_cls: type[Any] | None = None
    lr_scheduler_params: dict[str, Any] = field(default_factory=dict)
    save_freq: int = 1
    save_iterations: int = 0
    save_seconds: float | str | None = None
    keep: int = 2
    save_best: bool = True
    mixed_precision: bool = False
    mixed_precision_kwargs: dict[str, Any] | None = None
    device: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunParts:
    """Objects of a run, created by each call of :meth:`delira_nca.experiment.RunConfig.build`."""

    model: AbstractPyTorchNetwork
    task: TaskSection
    data: DataSection
    trainer: TrainerSection
    callbacks: list[AbstractCallback]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse arguments such as ``--trainer.lr 1e-3`` or ``--trainer.lr=1e-3`` to values by dotted name, as YAML.

    Examples
    --------
    >>> parse_overrides(["--trainer.lr", "1e-3", "--data.val_split=0.2", "--name", "a"])
    {'trainer.lr': 0.001, 'data.val_split': 0.2, 'name': 'a'}
    """
    texts = split_arguments(arguments)
    return {name: parse_yaml(text, f"the value of --{name}, {text!r}") for name, text in texts.items()}


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with values changed by dotted name.

    Numbers in a name are indices into lists. For an entry with ``class_path``, ``init_args`` may be omitted:
    ``model.hidden_size`` means ``model.init_args.hidden_size``. Changing a ``class_path`` removes the arguments.

    Raises
    ------
    ConfigError
        If a name refers to an entry of a value that is not a mapping or a list, or to an index out of range.

    Examples
    --------
    >>> override({"trainer": {"lr": 1.0}}, {"trainer.lr": 0.1, "seed": 3})
    {'trainer': {'lr': 0.1}, 'seed': 3}
    >>> override({"model": {"class_path": "a.B", "init_args": {"c": 1}}}, {"model.c": 2})
    {'model': {'class_path': 'a.B', 'init_args': {'c': 2}}}
    """
    changed = copy.deepcopy(dict(values))
    for name, value in changes.items():
        _set(changed, name.split("."), value, name)
    return changed


def _set(values: Any, keys: list[str], value: Any, name: str) -> None:
    key, *rest = keys
    if isinstance(values, list):
        if not key.isdecimal() or int(key) >= len(values):
            raise ConfigError(f"--{name}: {key!r} is none of the {len(values)} entries, counted from 0")
        if rest:
            _set(values[int(key)], rest, value, name)
        else:
            values[int(key)] = value
        return
    if not isinstance(values, dict):
        raise ConfigError(f"--{name}: what should hold {key!r} is {values!r}")
    if "class_path" in values and key not in ("class_path", "init_args", "dict_kwargs"):
        values = values.setdefault("init_args", {})
    if rest:
        if values.get(key) is None:
            values[key] = {}
        _set(values[key], rest, value, name)
    else:
        if key == "class_path" and values.get(key) != value:
            values.pop("init_args", None)
        values[key] = copy.deepcopy(value)


Values = Mapping[str, Any]
_HINTS: dict[str, Any] = {
    "name": str,
    "model": AbstractPyTorchNetwork,
    "data": DataSection,
    "task": TaskSection,
    "trainer": TrainerSection,
    "callbacks": list[AbstractCallback],
    "start": StartConfig | None,
    "seed": int,
    "repetition": int,
    "num_epochs": int | None,
    "num_iterations": int | None,
    "validation_interval": int | None,
    "schedules": dict[str, Any],
}


@dataclass(frozen=True)
class RunConfig:
    """Config of a run: plain values from which all objects of the run are built.

    An object is written as ``{"class_path": "package.Class", "init_args": {...}}``; the path may also be that of a
    function that returns such an object according to its annotation. Paths are imported and called, so **an untrusted
    config file can run code**: only objects of the expected type are built, but the import already executes the module.

    Parameters
    ----------
    name : str
        Name of the run, a single word.
    model : mapping
        Network, an :class:`~delira_nca.models.AbstractPyTorchNetwork`.
    data : mapping
        Entries of :class:`DataSection`.
    task : mapping
        Entries of :class:`TaskSection`.
    trainer : mapping
        Entries of :class:`TrainerSection`.
    callbacks : sequence of mapping
        Callbacks in the order of registration.
    start : mapping, optional
        Entries of :class:`StartConfig`: initial weights from another run.
    seed : int
        Seed of the initial weights and of all random numbers.
    repetition : int
        Number of the run among repetitions with the same config; it changes the seed.
    num_epochs, num_iterations : int, optional
        Length of the training in epochs or in iterations; one of the two is required.
    validation_interval : int, optional
        Number of epochs between two validations, 1 by default. With ``num_iterations``, the number of iterations
        between two validations and checkpoints, which is then the length of an epoch: by default 1000, or the largest
        smaller number that divides ``num_iterations``.
    schedules : mapping
        Settings that change with the step, by path: for example ``{"optimizer.lr": {"kind": "cosine", "start": 2e-3,
        "stop": 1e-4, "steps": 2000}}``; see :class:`delira_nca.training.callbacks.ScheduleCallback`.
    directory : str or path
        Folder to which relative paths in the config are relative; the working directory by default. It depends on the
        machine and is part of neither the file nor the digest.

    Raises
    ------
    ConfigError
        With all errors at once, each with its place, the expected value, and the nearest valid name.

    Notes
    -----
    Modelled on dacapo's RunConfig; its names (``task_config``, ``architecture_config``, ...) are available as
    properties. Defaults are filled in when a config is created, so that its file and its digest are complete.

    Examples
    --------
    >>> model = {"class_path": "delira_nca.models.build_model", "init_args": {"preset": "growing"}}
    >>> data = {"class_path": "delira_nca.data_loading.growing_dataset", "init_args": {"size": 8, "padding": 2}}
    >>> config = RunConfig("flower", model, {"train": data}, num_epochs=3)
    >>> config.trainer["lr"], config.replace({"trainer.lr": 0.1}).trainer["lr"]
    (0.001, 0.1)
    >>> RunConfig("flower", model, {"train": data, "batchsize": 3}, {"mod": "lowest"})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: 3 mistakes in the config of a run:
    - data has no entry 'batchsize'. Known: ... Did you mean 'batch_size'?
    - task has no entry 'mod'. Known: ... Did you mean 'mode'?
    - give num_epochs or num_iterations; there is neither
    """

    name: str
    model: Values
    data: Values
    task: Values = field(default_factory=dict)
    trainer: Values = field(default_factory=dict)
    callbacks: Sequence[Values] = ()
    start: Values | None = None
    seed: int = 0
    repetition: int = 0
    num_epochs: int | None = None
    num_iterations: int | None = None
    validation_interval: int | None = None
    schedules: Values = field(default_factory=dict)
    directory: str | os.PathLike[str] = field(default=".", compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", absolute(self.directory))
        mistakes: list[str] = []
        for name, hint in _HINTS.items():
            checked, more = check_part(name, hint, _plain(getattr(self, name)))
            object.__setattr__(self, name, checked)
            mistakes += more
        if self.validation_interval is None:
            object.__setattr__(self, "validation_interval", _default_interval(self.num_iterations))
        mistakes += self._contradictions()
        if mistakes:
            raise ConfigError(_listed(mistakes))

    def _contradictions(self) -> list[str]:
        """Errors that are not type errors."""
        told = []
        try:
            require_folder_name(self.name, "name is")
        except ConfigError as error:
            told.append(str(error))
        given = [n for n in ("num_epochs", "num_iterations") if getattr(self, n) is not None]
        if len(given) != 1:
            told.append(f"give num_epochs or num_iterations; there {'are both' if given else 'is neither'}")
        for name, least in (*((n, 1) for n in given), ("validation_interval", 1), ("seed", 0), ("repetition", 0)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                told.append(f"{name} is at least {least}, not {value}")
        iterations, interval = self.num_iterations, self.validation_interval
        are_numbers = is_whole(iterations) and is_whole(interval) and min(iterations, interval) > 0
        if given == ["num_iterations"] and are_numbers and iterations % interval:  # type: ignore[operator]
            told.append(f"num_iterations={iterations} is not a multiple of validation_interval={interval}")
        for path, schedule in self.schedules.items() if isinstance(self.schedules, Mapping) else ():
            try:
                Schedule.of(schedule)
            except ConfigError as error:
                told.append(f"schedules.{path}: {error}")
        if isinstance(self.data, Mapping):
            try:
                require_group_key(self.data.get("split_type", "random"), self.data.get("group_key"))
            except ConfigError as error:
                told.append(f"data: {error}")
        return [*told, *self._unclear_directions()] if isinstance(self.task, Mapping) else told

    def require_effective(self) -> None:
        """Check that every value of the config has an effect; configs of earlier versions may have others.

        Raises
        ------
        ConfigError
            If a value has no effect, or contradicts another one.
        """
        told, data, trainer = [], self.data, self.trainer
        interval, is_validated = int(self.validation_interval or 1), data["valid"] is not None or data["val_split"]
        if is_validated and self.num_epochs is not None and interval > self.num_epochs:
            told.append(f"validation_interval={interval} is more than num_epochs={self.num_epochs}")
        if data["fold"] and not data["num_splits"]:
            told.append(f"data.fold={data['fold']} has no effect without data.num_splits")
        if "lr" in (trainer["optimizer_params"] or {}):
            told.append("trainer.optimizer_params has 'lr': give trainer.lr instead")
        if trainer["lr_scheduler_params"] and trainer["lr_scheduler_cls"] is None:
            told.append("trainer.lr_scheduler_params has no effect without trainer.lr_scheduler_cls")
        if told:
            raise ConfigError("; ".join(told))

    def _unclear_directions(self) -> list[str]:
        """Errors of ``directions``: unknown modes or names, and metrics without a mode."""
        task, told = self.task, []
        metrics, given = task.get("metrics"), task.get("directions")
        for place, mode in (("mode", task.get("mode", "lowest")), *(given or {}).items()):
            try:
                higher_is_better(mode)
            except ConfigError as error:
                told.append(f"task.{place}: {error}")
        if not isinstance(metrics, Mapping) or not isinstance(given, Mapping):
            return told
        told += [
            f"task.directions has an unknown metric {n!r}. {did_you_mean(n, metrics)}"
            for n in given
            if n not in metrics
        ]
        validates = isinstance(self.data, Mapping) and (self.data.get("valid") or self.data.get("val_split"))
        decides = str(task.get("score")).removeprefix("val_")
        typed = task.get("score") is not None and decides not in metrics
        hint = f" task.score is {task['score']!r}. {did_you_mean(decides, metrics)}" if typed else ""
        for name in metrics:
            if validates and name not in given and name != decides:
                told.append(f"task.directions says nothing of metric {name!r}: is 'highest' or 'lowest' better?{hint}")
        return told

    # Files ------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Values, directory: str | os.PathLike[str] = ".") -> RunConfig:
        """Create a config from nested plain values; relative paths are relative to ``directory``.

        Raises
        ------
        ConfigError
            With all errors at once, including unknown names.
        """
        unknown = [f"a run has no entry {key!r}. {_meant(key)}" for key in values if key not in _HINTS]
        missing = [f"{name} is missing" for name in ("name", "model", "data") if name not in values]
        if not unknown and not missing:
            return cls(**values, directory=directory)
        stand_in = {name: values.get(name, {}) for name in ("name", "model", "data")}
        known = {key: value for key, value in values.items() if key in _HINTS}
        try:
            cls(**{**stand_in, **known})
            others = []
        except ConfigError as error:
            others = [
                line.removeprefix("- ") for line in str(error).splitlines() if "mistakes in the config" not in line
            ]
        absent = {line.split()[0] for line in missing}
        others = [line for line in others if re.split(r"[ .:]", line)[0] not in absent]
        raise ConfigError(_listed([*unknown, *missing, *others]))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        changes: Values | None = None,
        directory: str | os.PathLike[str] = ".",
    ) -> RunConfig:
        """Load a config from a YAML or JSON file, with values changed by dotted name.

        Raises
        ------
        MissingFileError, ConfigError
            If the file is missing or not readable, or with all errors of the config at once.
        """
        return cls.from_dict(override(read_plain(path), changes or {}), directory)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, including all defaults."""
        return {name: _plain(getattr(self, name)) for name in _HINTS}

    def to_yaml(self) -> str:
        """YAML text for :meth:`from_file`."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file for :meth:`from_file`."""
        write_plain(self.to_dict(), path)

    def replace(self, changes: Values) -> RunConfig:
        """Return a config with values changed by dotted name, such as ``{"trainer.lr": 1e-3}``."""
        values, was_default = self.to_dict(), _default_interval(self.num_iterations)
        if not {"num_epochs", "num_iterations"}.isdisjoint(changes) and self.validation_interval == was_default:
            del values["validation_interval"]
        return type(self).from_dict(override(values, changes), self.directory)

    @property
    def digest(self) -> str:
        """Hash of all values except the name, which affect the computation: 64 hexadecimal digits."""
        return digest_of(self.to_dict())

    # Objects ----------------------------------------------------------------------------------------------------------

    @property
    def run_seed(self) -> int:
        """Seed of the repetition."""
        return derive_seed(self.seed, "run", self.repetition)

    def build(self) -> RunParts:
        """Create the objects of the run, with initial weights that depend on the seed."""
        model = self.build_model()
        with self.relative_paths(), isolated_rng(derive_seed(self.run_seed, "parts")):
            return RunParts(
                model=model,
                task=build_part(TaskSection, self.task),
                data=build_part(DataSection, self.data),
                trainer=build_part(TrainerSection, self.trainer),
                callbacks=[
                    *build_part(_HINTS["callbacks"], self.callbacks),
                    *([ScheduleCallback(self.schedules)] if self.schedules else []),
                ],
            )

    def build_model(self) -> AbstractPyTorchNetwork:
        """Create only the model, with the initial weights of the run."""
        with self.relative_paths(), isolated_rng(self.run_seed):
            return build_part(_HINTS["model"], self.model)  # type: ignore[no-any-return]

    @contextmanager
    def relative_paths(self) -> Iterator[None]:
        """Context manager in which relative paths are relative to :attr:`directory`."""
        inside = working_in(self.directory) if Path(self.directory).is_dir() else nullcontext()
        with self.missing_files_explained(), inside:
            yield

    @contextmanager
    def missing_files_explained(self) -> Iterator[None]:
        """Context manager that adds the directory of relative paths to errors about missing files.

        Raises
        ------
        MissingFileError
            For a missing file, with its path and the directory of relative paths.
        """
        try:
            yield
        except FileNotFoundError as error:
            where = f"Relative paths in this config are relative to {self.directory}"
            if where in str(error):
                raise
            gone = "" if Path(self.directory).is_dir() else ", which is not there any more"
            raise MissingFileError(f"{error}. {where}{gone}") from error

    @property
    def start_config(self) -> StartConfig | None:
        """Config of the initial weights from another run, or None."""
        return None if self.start is None else StartConfig(**self.start)

    @property
    def task_config(self) -> Values:
        """Alias of ``task``, as in dacapo."""
        return self.task

    @property
    def architecture_config(self) -> Values:
        """Alias of ``model``, as in dacapo."""
        return self.model

    @property
    def trainer_config(self) -> Values:
        """Alias of ``trainer``, as in dacapo."""
        return self.trainer

    @property
    def datasplit_config(self) -> Values:
        """Alias of ``data``, as in dacapo."""
        return self.data


def _default_interval(num_iterations: int | None) -> int:
    """Default number of epochs, or of iterations if ``num_iterations`` is given, between two validations.

    Examples
    --------
    >>> [_default_interval(number) for number in (None, 300, 5000, 2500)]
    [1, 300, 1000, 625]
    """
    if not isinstance(num_iterations, int) or num_iterations < 1:
        return 1
    largest = next(number for number in range(min(1000, num_iterations), 0, -1) if num_iterations % number == 0)
    return largest if largest >= min(100, num_iterations) else 1000  # rejected later, since it is not a divisor


def _meant(key: object) -> str:
    """End of an error message: the entries of a run, and the most similar name, also within sections."""
    sections = {name: hint for name, hint in _HINTS.items() if dataclasses.is_dataclass(hint)}
    inner = [f"{name}.{field.name}" for name, hint in sections.items() for field in dataclasses.fields(hint)]
    known = did_you_mean(None, _HINTS)
    meant = nearest_name(key, [*_HINTS, *inner], 0.6) if isinstance(key, str) else None
    return known if meant is None else f"{known} Did you mean {meant!r}?"


def _listed(mistakes: Sequence[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    return "\n- ".join([f"{len(mistakes)} mistakes in the config of a run:", *mistakes])


def _plain(value: Any) -> Any:
    """Convert to plain values: classes and functions to import paths, NumPy numbers to Python, tuples to lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value


def digest_of(values: Values) -> str:
    """:attr:`RunConfig.digest` of the plain values of a config, without building objects."""
    values = {name: value for name, value in values.items() if name != "name"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


_MAY_CHANGE = (
    "num_epochs",
    "num_iterations",
    "data.num_workers",
    "data.val_batch_size",
    "trainer.device",
    "trainer.save_freq",
    "trainer.save_iterations",
    "trainer.save_seconds",
    "trainer.keep",
    "trainer.save_best",
)
"""Values that may change when a run is resumed: length, place, and the files that are kept."""


def require_same_run(there: RunConfig, here: RunConfig, folder: str | os.PathLike[str]) -> None:
    """Check that a config does not change the computation of an existing run.

    Raises
    ------
    ConfigError
        If it does. The message lists all differences.
    """
    found = {
        name: pair for name, pair in differences(there.to_dict(), here.to_dict()).items() if name not in _MAY_CHANGE
    }
    if found:
        told = "; ".join(f"{name} was {then!r} and is {now!r}" for name, (then, now) in found.items())
        raise ConfigError(f"{folder} holds a run of another config: {told}. Give the run another name")


class Samples(NamedTuple):
    """Samples of each part, and arguments of the training sampler."""

    train: AbstractDataset
    valid: AbstractDataset | None
    test: AbstractDataset | None
    sampler_kwargs: dict[str, Any]


def divide(section: DataSection, num_drawn: int | None) -> Samples:
    """Split the samples according to a config.

    Parameters
    ----------
    section : DataSection
        Section of the config with built objects.
    num_drawn : int, optional
        Number of samples drawn per training epoch; if None, each is used once.

    Raises
    ------
    ConfigError
        If the section is contradictory, or a split is not possible.
    """
    require_group_key(section.split_type, section.group_key)
    train, valid, test = section.train, section.valid, section.test
    how = {"split_type": section.split_type, "label_key": section.label_key, "group_key": section.group_key}
    if section.num_splits:
        if test is not None:
            raise ConfigError("data.num_splits tests on the held-out fold: leave data.test out")
        if not 0 <= section.fold < section.num_splits:
            raise ConfigError(f"data.fold is from 0 to {section.num_splits - 1}, not {section.fold}")
        folds = kfold(train, section.num_splits, random_seed=section.split_seed, **how)  # type: ignore[arg-type]
        train, test = folds[section.fold]
    if section.val_split:
        if valid is not None:
            raise ConfigError("data.val_split takes the validation samples out of data.train: leave data.valid out")
        share = section.val_split if section.val_split < 1 else int(section.val_split)
        train, valid = train_val_split(train, share, random_seed=section.split_seed, **how)  # type: ignore[arg-type]
    if section.group_key is not None:
        _require_disjoint({"train": train, "valid": valid, "test": test}, section.group_key)
    if num_drawn is None:
        return Samples(train, valid, test, {})
    if section.sampler_cls is not RandomSampler:
        raise ConfigError(f"num_iterations draws samples by chance: data.sampler_cls={section.sampler_cls.__name__}")
    sampler = {"num_samples": num_drawn, "replacement": num_drawn > len(train)}
    return Samples(train, valid, test, sampler)


def _require_disjoint(parts: Mapping[str, AbstractDataset | None], group_key: str) -> None:
    """Check that no group is in two parts."""
    groups = {
        name: set(as_labels(part.column(group_key), "group").tolist())
        for name, part in parts.items()
        if part and group_key in part[0]
    }
    for one, other in itertools.combinations(groups, 2):
        if both := sorted(groups[one] & groups[other], key=str):
            raise ConfigError(
                f"data.{one} and data.{other} have samples of the same {group_key}: {shown(both)}. "
                "Remove them, or give different groups different names"
            )
