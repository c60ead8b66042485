"""The description of a run: frozen, plain, checked whole, and with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from delira_nca.checks import is_whole
from delira_nca.data_loading.splits import require_group_key
from delira_nca.errors import ConfigError, MissingFileError, did_you_mean, nearest_name
from delira_nca.experiment.config.mistakes import build_part, check_part
from delira_nca.experiment.config.overrides import override
from delira_nca.experiment.config.sections import DataSection, RunParts, TaskSection, TrainerSection
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.experiment.start import StartConfig
from delira_nca.io.paths import absolute, working_in
from delira_nca.io.run_folder import require_folder_name
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.scores import higher_is_better

__all__ = ["RunConfig"]

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
    name : of the run, a word.
    model : an :class:`~delira_nca.models.AbstractPyTorchNetwork`.
    data : entries of :class:`DataSection`.
    task : entries of :class:`TaskSection`.
    trainer : entries of :class:`TrainerSection`.
    callbacks : in the order of their registration.
    start : entries of :class:`StartConfig`: weights of another run to begin with.
    seed : of the weights and of everything random.
    repetition : number of the run among those that differ in nothing else; it changes the seed.
    num_epochs, num_iterations : one of them: how long it is trained.
    validation_interval : number of epochs from one validation to the next, 1 by default. With ``num_iterations``, the
        number of iterations from one validation and checkpoint to the next, which then make up an epoch: by default
        1000, or the largest smaller number that divides ``num_iterations``.
    directory : folder that relative paths in the config are relative to; the working directory by default. It belongs
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
