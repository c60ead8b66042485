"""NCALab's grid search over arguments of a model and of its trainer."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from delira_nca.errors import ConfigError, MissingDependencyError
from delira_nca.experiment.search import grid
from delira_nca.io.paths import absolute
from delira_nca.ncalab.trainer import BasicNCATrainer

__all__ = ["ParameterSearch", "ParameterSet"]

_LOGGER = logging.getLogger("delira_nca")


class ParameterSet:
    """All combinations of the values of some arguments. It can be iterated any number of times.

    Parameters
    ----------
    **kwargs : object
        Values by argument. Lists, ranges, sets and arrays are values to combine. Anything else is one value; a tuple
        too, such as a range of steps (NCALab would combine its entries).

    Raises
    ------
    ConfigError
        If an argument has no values.

    Examples
    --------
    >>> parameters = ParameterSet(fire_rate=[0.5, 0.8], training_timesteps=(48, 64))
    >>> list(parameters)
    [{'fire_rate': 0.5, 'training_timesteps': (48, 64)}, {'fire_rate': 0.8, 'training_timesteps': (48, 64)}]
    >>> print(parameters.info())
    fire_rate
    2 combinations
    """

    def __init__(self, **kwargs: Any) -> None:
        self.mutable = [name for name, value in kwargs.items() if isinstance(value, (list, range, set, np.ndarray))]
        self.params = {
            name: [v.item() if isinstance(v, np.generic) else v for v in value] if name in self.mutable else [value]
            for name, value in kwargs.items()
        }
        if empty := [name for name, values in self.params.items() if not values]:
            raise ConfigError(f"{empty[0]!r} has no values to combine")
        self.combinations = grid(self.params) if self.params else [{}]
        self.index = 0

    def is_mutable(self, key: str) -> bool:
        """Whether an argument has values to combine."""
        return key in self.mutable

    def info(self) -> str:
        """Text with the arguments that have values to combine, and the number of combinations."""
        return f"{' × '.join(self.mutable) or 'Empty set'}\n{len(self)} combinations"

    def num_combinations(self) -> int:
        """Return the number of combinations."""
        return len(self.combinations)

    def next(self) -> dict[str, Any]:
        """Return the next combination, which is independent of loops over all of them."""
        if self.index >= len(self):
            raise StopIteration
        self.index += 1
        return dict(self.combinations[self.index - 1])

    def __next__(self) -> dict[str, Any]:
        return self.next()

    def __len__(self) -> int:
        return len(self.combinations)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([dict(combination) for combination in self.combinations])


class ParameterSearch:
    """Train a model with every combination of arguments.

    Parameters
    ----------
    device : torch.device or str
        Device, the first argument of the model.
    model_class : type
        Class of the model.
    model_params, trainer_params : ParameterSet
        Arguments of the model and of :class:`BasicNCATrainer`. Each training is written to a separate folder
        in ``model_path``.
    """

    def __init__(
        self,
        device: torch.device | str,
        model_class: Callable[..., Any],
        model_params: ParameterSet,
        trainer_params: ParameterSet,
    ) -> None:
        self.device, self.model_class = device, model_class
        self.model_params, self.trainer_params = model_params, trainer_params

    def info(self) -> str:
        """Text that describes the search."""
        return "\n".join(
            [
                "Hyperparameter search",
                "Model parameters: " + self.model_params.info().replace("\n", ", "),
                "Trainer parameters: " + self.trainer_params.info().replace("\n", ", "),
                f"Total combinations: {len(self.model_params) * len(self.trainer_params)}",
            ]
        )

    def search(self, dataloader_train: Any, dataloader_val: Any = None) -> Any:
        """Train every combination.

        Parameters
        ----------
        dataloader_train, dataloader_val : iterable
            Loaders of (image, label) pairs.

        Returns
        -------
        pandas.DataFrame
            One row per training: the entries of its history, and the arguments that were combined.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError("the table of a search needs pandas: pip install pandas") from error
        found = []
        for trainer_args, model_args in itertools.product(self.trainer_params, self.model_params):
            combined = [
                {name: value for name, value in given.items() if parameters.is_mutable(name)}
                for given, parameters in ((trainer_args, self.trainer_params), (model_args, self.model_params))
            ]
            name = "__".join(f"{part}_{_text(values)}" for part, values in zip("TM", combined, strict=True))
            _LOGGER.info("search: %s", name)
            folder = trainer_args.get("model_path")
            options = {**trainer_args, "model_path": None if folder is None else absolute(folder) / name}
            trainer = BasicNCATrainer(self.model_class(self.device, **model_args), **options)
            history = trainer.train(dataloader_train, dataloader_val)
            found.append({**history.to_dict(), **combined[0], **combined[1]})
        return pd.DataFrame(found)

    def __call__(self, dataloader_train: Any, dataloader_val: Any = None) -> Any:
        """Train every combination; see :meth:`search`."""
        return self.search(dataloader_train, dataloader_val)


def _text(values: Mapping[str, Any]) -> str:
    """Name of a combination that can be a part of the name of a folder."""
    text = "_".join(f"{name}={value}" for name, value in values.items())
    return "".join(letter if letter.isalnum() or letter in "_=.-+" else "-" for letter in text)
