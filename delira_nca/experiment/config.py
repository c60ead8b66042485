"""The description of a run: frozen, plain, checked as a whole, and with a digest."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
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
from delira_nca.data_loading.splits import require_group_key
from delira_nca.errors import ConfigError, MissingFileError, did_you_mean, nearest_name
from delira_nca.experiment.plain_files import FLOAT, read_plain, write_plain
from delira_nca.experiment.start import StartConfig
from delira_nca.experiment.validation import build_part, check_part
from delira_nca.io.paths import absolute, working_in
from delira_nca.io.run_folder import require_folder_name
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
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
    """What is to be learned, and what says how well.

    Parameters
    ----------
    criterions : dict of str to callable
        Name to loss; their sum is minimised. Empty: the network's own.
    metrics : dict of str to callable
        Name to what is measured besides.
    metric_keys : dict
        Name of a criterion or metric to the names of what it is called with.
    score : str, optional
        Decides which epoch is best; of validation where there is one. None: the last epoch is.
    mode : str
        ``"lowest"`` or ``"highest"``: which way the score is better.
    directions : dict of str to str
        Name to the same, for the other metrics. Of a loss, lower is better.
    """

    criterions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metrics: dict[str, Callable[..., Any]] = field(default_factory=dict)
    metric_keys: dict[str, list[str]] = field(default_factory=dict)
    score: str | None = None
    mode: str = "lowest"
    directions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """What is trained, validated and tested on.

    Parameters
    ----------
    train : AbstractDataset
        The samples; if ``num_splits`` is set, of all folds.
    valid, test : AbstractDataset, optional
        Samples to validate and test on.
    val_split : float
        Take such a share of the training samples, or so many, to validate on. 0: none.
    num_splits, fold : int
        Divide the training samples into so many folds, and test on the one with this number, from 0.
    split_type : str
        ``"random"``, ``"stratified"`` or ``"grouped"``, for both divisions.
    label_key, group_key : str
        Entry of a sample that holds its class, or its group. A stratified division with
        ``group_key`` keeps groups together; a random one refuses it.
    split_seed : int
        Of the divisions, so that runs of other seeds have the same folds.
    batch_size : int
        Samples in a batch of training.
    val_batch_size : int, optional
        Samples in a batch of validation and test; ``batch_size`` by default.
    num_workers : int
        Processes that build the batches.
    transforms : callable, optional
        What changes a batch of training.
    sampler_cls : type of AbstractSampler
        Orders the samples of training.
    drop_last : bool
        Whether an incomplete last batch of training is left out.
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
    """How it is trained.

    Parameters
    ----------
    trainer_cls : type of PyTorchNetworkTrainer
        The training routine.
    optimizer_cls, lr, optimizer_params : its optimizer, learning rate, and further arguments.
    lr_scheduler_cls, lr_scheduler_params : type, optional and dict
        A scheduler of torch, stepped once an epoch, or a callback class.
    save_freq : int
        Number of epochs between two checkpoints; the last epoch is saved as well; 0 writes none.
    save_iterations : int
        Number of iterations between two further checkpoints; 0 for none.
    save_seconds : float or str, optional
        Time between two checkpoints, as ``600`` or ``"10m"``: epochs that end sooner are not saved, longer
        ones are saved within. None: ``save_freq`` alone decides.
    keep : int
        Number of the newest checkpoints that are kept, besides that of the best epoch; 0 keeps all.
    save_best : bool
        Whether to write a checkpoint of the best epoch, too. Its weights are in every checkpoint.
    mixed_precision, mixed_precision_kwargs : bool and dict, optional
        See :class:`delira_nca.models.precision.Precision`.
    device : str
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ...
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
    """The live objects of a run, made anew at each call of :meth:`delira_nca.experiment.RunConfig.build`."""

    model: AbstractPyTorchNetwork
    task: TaskSection
    data: DataSection
    trainer: TrainerSection
    callbacks: list[AbstractCallback]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by dotted name from ``--trainer.lr 1e-3`` or ``--trainer.lr=1e-3``; values are read as YAML.

    Raises
    ------
    ConfigError
        If something stands where a name should, or a name has no value.

    Examples
    --------
    >>> parse_overrides(["--trainer.lr", "1e-3", "--data.val_split=0.2", "--name", "a"])
    {'trainer.lr': 0.001, 'data.val_split': 0.2, 'name': 'a'}
    """
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        given = rest.pop(0)
        if not given.startswith("--"):
            raise ConfigError(f"expected a name such as --trainer.lr, not {given!r}")
        name, equals, value = given[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{name} has no value")
            value = rest.pop(0)
        found[name] = _value(value, name)
    return found


def _value(text: str, name: str) -> Any:
    import yaml

    if FLOAT.fullmatch(text):  # YAML 1.1 takes 1e-3 for a word
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of --{name}, {text!r}, is no YAML: {error}") from error


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Set values by dotted name, in a copy.

    A number counts the entries of a list from 0. What is said to a ``class_path`` entry without ``init_args`` is meant
    for these: ``model.hidden_size`` is ``model.init_args.hidden_size``. Changing a ``class_path`` drops the arguments.

    Raises
    ------
    ConfigError
        If a name leads through a value that holds no others, or to an entry that a list does not have.

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
}


@dataclass(frozen=True)
class RunConfig:
    """Description of a run: plain data, which every object of the run is built from.

    An object stands as ``{"class_path": "package.Class", "init_args": {...}}``; the path may also be that of a function
    whose annotation says that it returns such an object. It is imported and called, so **a config file of somebody else
    can run code**: only what fits the type of its place is built, but importing it already executes its module.

    Parameters
    ----------
    name : str
        Of the run, a word.
    model : Values
        An :class:`~delira_nca.models.AbstractPyTorchNetwork`.
    data : Values
        Entries of :class:`DataSection`.
    task : Values
        Entries of :class:`TaskSection`.
    trainer : Values
        Entries of :class:`TrainerSection`.
    callbacks : sequence of Values
        In the order of their registration.
    start : Values, optional
        Entries of :class:`StartConfig`: weights of another run to begin with.
    seed : int
        Of the weights and of everything random.
    repetition : int
        Number of the run among those that differ in nothing else; it changes the seed.
    num_epochs, num_iterations : int, optional
        One of them: how long it is trained.
    validation_interval : int, optional
        Number of epochs from one validation to the next, 1 by default. With ``num_iterations``, the
        number of iterations from one validation and checkpoint to the next, which then make up an epoch: by default
        1000, or the largest smaller number that divides ``num_iterations``.
    directory : str or path
        Folder that relative paths in the config are relative to; the working directory by default. It belongs
        to this machine and is not part of the description: neither its file nor its digest has it.

    Raises
    ------
    ConfigError
        With all mistakes at once, each with its place, what was expected, and the nearest right name.

    Notes
    -----
    After dacapo's RunConfig, whose names (``task_config``, ``architecture_config``, ...) read the sections, too. All
    defaults are filled in when a config is made, so that its file, and its digest, say what was run.

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
        """Mistakes that no type knows of."""
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
            told.append(f"num_iterations={iterations} is no multiple of validation_interval={interval}")
        if isinstance(self.data, Mapping):
            try:
                require_group_key(self.data.get("split_type", "random"), self.data.get("group_key"))
            except ConfigError as error:
                told.append(f"data: {error}")
        return [*told, *self._unclear_directions()] if isinstance(self.task, Mapping) else told

    def _unclear_directions(self) -> list[str]:
        """Directions that are none, or of nothing, and metrics without one."""
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
        """Config from nested plain values, whose relative paths are relative to ``directory``.

        Raises
        ------
        ConfigError
            With all mistakes at once; unknown names are among them.
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
        """Config from a YAML or JSON file, with some values by dotted name set otherwise.

        Raises
        ------
        MissingFileError, ConfigError
            If there is no such file, it cannot be read, or with all mistakes at once.
        """
        return cls.from_dict(override(read_plain(path), changes or {}), directory)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, all defaults filled in."""
        return {name: _plain(getattr(self, name)) for name in _HINTS}

    def to_yaml(self) -> str:
        """Text of the file that :meth:`from_file` reads."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file that :meth:`from_file` reads."""
        write_plain(self.to_dict(), path)

    def replace(self, changes: Values) -> RunConfig:
        """Config with some values by dotted name set otherwise, as in ``{"trainer.lr": 1e-3}``."""
        values, was_default = self.to_dict(), _default_interval(self.num_iterations)
        if not {"num_epochs", "num_iterations"}.isdisjoint(changes) and self.validation_interval == was_default:
            del values["validation_interval"]
        return type(self).from_dict(override(values, changes), self.directory)

    @property
    def digest(self) -> str:
        """Hash of all that decides what the run computes: everything but its name. 64 hexadecimal digits."""
        return digest_of(self.to_dict())

    # Objects ----------------------------------------------------------------------------------------------------------

    @property
    def run_seed(self) -> int:
        """Seed of this repetition."""
        return derive_seed(self.seed, "run", self.repetition)

    def build(self) -> RunParts:
        """Make the objects of the run, with weights that the seed decides."""
        model = self.build_model()
        with self.relative_paths(), isolated_rng(derive_seed(self.run_seed, "parts")):
            return RunParts(
                model=model,
                task=build_part(TaskSection, self.task),
                data=build_part(DataSection, self.data),
                trainer=build_part(TrainerSection, self.trainer),
                callbacks=build_part(_HINTS["callbacks"], self.callbacks),
            )

    def build_model(self) -> AbstractPyTorchNetwork:
        """Make the model alone, with the weights that the run begins with."""
        with self.relative_paths(), isolated_rng(self.run_seed):
            return build_part(_HINTS["model"], self.model)  # type: ignore[no-any-return]

    @contextmanager
    def relative_paths(self) -> Iterator[None]:
        """Resolve relative paths from :attr:`directory` within the block.

        Raises
        ------
        MissingFileError
            As :meth:`missing_files_explained`.
        """
        inside = working_in(self.directory) if Path(self.directory).is_dir() else nullcontext()
        with self.missing_files_explained(), inside:
            yield

    @contextmanager
    def missing_files_explained(self) -> Iterator[None]:
        """Name the directory of relative paths in errors about files that are missing within the block.

        Raises
        ------
        MissingFileError
            For a missing file: its path, and the directory that relative paths in the config are relative to.
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
        """Where the weights come from at the beginning."""
        return None if self.start is None else StartConfig(**self.start)

    @property
    def task_config(self) -> Values:
        """``task``, as dacapo calls it."""
        return self.task

    @property
    def architecture_config(self) -> Values:
        """``model``, as dacapo calls it."""
        return self.model

    @property
    def trainer_config(self) -> Values:
        """``trainer``, as dacapo calls it."""
        return self.trainer

    @property
    def datasplit_config(self) -> Values:
        """``data``, as dacapo calls it."""
        return self.data


def _default_interval(num_iterations: int | None) -> int:
    """Epochs, or iterations where their number is given, from one validation to the next.

    Examples
    --------
    >>> [_default_interval(number) for number in (None, 300, 5000, 2500)]
    [1, 300, 1000, 625]
    """
    if not isinstance(num_iterations, int) or num_iterations < 1:
        return 1
    largest = next(number for number in range(min(1000, num_iterations), 0, -1) if num_iterations % number == 0)
    return largest if largest >= min(100, num_iterations) else 1000  # which is then refused: it divides nothing


def _meant(key: object) -> str:
    """End of a message: the entries of a run, and the one, also of a section, that was probably meant."""
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
    """Plain values: classes and functions as their import path, NumPy's numbers as Python's, tuples as lists."""
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
    """:attr:`RunConfig.digest` of a config's plain values, of which nothing is built."""
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
"""What a run may be gone on with otherwise: how long, where, and what is kept of it."""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted names of what differs in two nests of plain values, and both values; an absent one is None.

    Examples
    --------
    >>> differences({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 2, "c": [1, 2]}, "d": 3})
    {'a.b': (1, 2), 'd': (None, 3)}
    """
    ours_flat, theirs_flat = dict(_flat(ours)), dict(_flat(theirs))
    names = [*ours_flat, *(name for name in theirs_flat if name not in ours_flat)]
    pairs = {name: (ours_flat.get(name), theirs_flat.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Any, name: str = "") -> Any:
    entries = enumerate(values) if isinstance(values, list) else values.items() if isinstance(values, Mapping) else ()
    nested = [(f"{name}.{key}" if name else str(key), value) for key, value in entries]
    if not nested:
        yield name, values
    for key, value in nested:
        yield from _flat(value, key)


def require_same_run(there: RunConfig, here: RunConfig, folder: str | os.PathLike[str]) -> None:
    """Refuse to go on with a run under a config by which it would have become another.

    Raises
    ------
    ConfigError
        With every difference.
    """
    found = {
        name: pair for name, pair in differences(there.to_dict(), here.to_dict()).items() if name not in _MAY_CHANGE
    }
    if found:
        told = "; ".join(f"{name} was {then!r} and is {now!r}" for name, (then, now) in found.items())
        raise ConfigError(f"{folder} holds a run of another config: {told}. Give the run another name")


class Samples(NamedTuple):
    """Parts of the samples, and arguments of the sampler of training."""

    train: AbstractDataset
    valid: AbstractDataset | None
    test: AbstractDataset | None
    sampler_kwargs: dict[str, Any]


def divide(section: DataSection, num_drawn: int | None) -> Samples:
    """Divide the samples as a config says.

    Parameters
    ----------
    section : DataSection
        Of the config, built.
    num_drawn : int, optional
        Samples that an epoch of training draws; None takes each once.

    Raises
    ------
    ConfigError
        If the section contradicts itself, or a division cannot be made.
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
    if num_drawn is None:
        return Samples(train, valid, test, {})
    if section.sampler_cls is not RandomSampler:
        raise ConfigError(f"num_iterations draws samples by chance: data.sampler_cls={section.sampler_cls.__name__}")
    sampler = {"num_samples": num_drawn, "replacement": num_drawn > len(train)}
    return Samples(train, valid, test, sampler)
