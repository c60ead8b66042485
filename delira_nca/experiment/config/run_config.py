"""The description of a run: frozen, plain, checked whole, and with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from delira_nca.data_loading.splits import require_group_key
from delira_nca.errors import ConfigError, did_you_mean
from delira_nca.experiment.config.mistakes import build_part, check_part
from delira_nca.experiment.config.overrides import override
from delira_nca.experiment.config.sections import DataSection, RunParts, TaskSection, TrainerSection
from delira_nca.experiment.plain_files import read_plain, write_plain
from delira_nca.experiment.start import StartConfig
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
    "validation_interval": int,
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
    validation_interval : validate every so many epochs; with ``num_iterations``, so many iterations, which then make
        up an epoch.

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
    validation_interval: int = 1

    def __post_init__(self) -> None:
        mistakes: list[str] = []
        for name, hint in _HINTS.items():
            checked, more = check_part(name, hint, _plain(getattr(self, name)))
            object.__setattr__(self, name, checked)
            mistakes += more
        mistakes += self._contradictions()
        if mistakes:
            raise ConfigError(_listed(mistakes))

    def _contradictions(self) -> list[str]:
        """Mistakes that no type knows of."""
        told = []
        if not isinstance(self.name, str) or not self.name or set(self.name) & set("/\\\0") or self.name[:1] == ".":
            told.append(f"name is a word that can name a folder, not {self.name!r}")
        given = [n for n in ("num_epochs", "num_iterations") if getattr(self, n) is not None]
        if len(given) != 1:
            told.append(f"give num_epochs or num_iterations; there {'are both' if given else 'is neither'}")
        for name, least in (*((n, 1) for n in given), ("validation_interval", 1), ("seed", 0), ("repetition", 0)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                told.append(f"{name} is at least {least}, not {value}")
        if given == ["num_iterations"] and self.num_iterations % max(1, self.validation_interval):  # type: ignore[operator]
            told.append(
                f"num_iterations={self.num_iterations} is no multiple of validation_interval={self.validation_interval}"
            )
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
    def from_dict(cls, values: Values) -> RunConfig:
        """Config from nested plain values.

        Raises
        ------
        ConfigError
            With all mistakes at once; unknown names are among them.
        """
        unknown = [f"a run has no entry {key!r}. {did_you_mean(key, _HINTS)}" for key in values if key not in _HINTS]
        missing = [f"{name} is missing" for name in ("name", "model", "data") if name not in values]
        if not unknown and not missing:
            return cls(**values)
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
    def from_file(cls, path: str | os.PathLike[str], changes: Values | None = None) -> RunConfig:
        """Config from a YAML or JSON file, with some values by dotted name set otherwise.

        Raises
        ------
        MissingFileError, ConfigError
            If there is no such file, it cannot be read, or with all mistakes at once.
        """
        return cls.from_dict(override(read_plain(path), changes or {}))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, all defaults filled in."""
        return {name: _plain(getattr(self, name)) for name in _HINTS}

    def to_yaml(self) -> str:
        """Text of the file that :meth:`from_file` reads."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file that :meth:`from_file` reads."""
        write_plain(self.to_dict(), Path(path))

    def replace(self, changes: Values) -> RunConfig:
        """Config with some values by dotted name set otherwise, as in ``{"trainer.lr": 1e-3}``."""
        return type(self).from_dict(override(self.to_dict(), changes))

    @property
    def digest(self) -> str:
        """Hash of all that decides what the run computes: everything but its name. 64 hexadecimal digits."""
        values = {name: value for name, value in self.to_dict().items() if name != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    # Objects ----------------------------------------------------------------------------------------------------------

    @property
    def run_seed(self) -> int:
        """Seed of this repetition."""
        return derive_seed(self.seed, "run", self.repetition)

    def build(self) -> RunParts:
        """Make the objects of the run, with weights that the seed decides."""
        with isolated_rng(self.run_seed):
            model = build_part("model", _HINTS["model"], self.model)
        with isolated_rng(derive_seed(self.run_seed, "parts")):
            return RunParts(
                model=model,
                task=build_part("task", TaskSection, self.task),
                data=build_part("data", DataSection, self.data),
                trainer=build_part("trainer", TrainerSection, self.trainer),
                callbacks=build_part("callbacks", _HINTS["callbacks"], self.callbacks),
            )

    def build_model(self) -> AbstractPyTorchNetwork:
        """Make the model alone, with the weights that the run begins with."""
        with isolated_rng(self.run_seed):
            return build_part("model", _HINTS["model"], self.model)  # type: ignore[no-any-return]

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


def _listed(mistakes: Sequence[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    return "\n- ".join([f"{len(mistakes)} mistakes in the config of a run:", *mistakes])


def _plain(value: Any) -> Any:
    """Plain values: classes and functions as import paths; dataclasses, tuples, numbers of numpy as what they hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value
