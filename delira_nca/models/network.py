"""What networks of every framework share: closures, losses by name, and parts of predictions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from delira_nca.checks import plain_numbers
from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean

__all__ = [
    "DEFAULT_KEYS",
    "AbstractNetwork",
    "declared_loss_names",
    "entry",
    "evaluate",
    "named_values",
    "parts_of",
    "total_loss",
    "wired",
]


class AbstractNetwork(ABC):
    """Base class of networks that define how they are trained on one batch.

    Parameters
    ----------
    **kwargs : object
        Arguments of the constructor, stored per instance as :attr:`init_kwargs` (in delira a class attribute, shared by
        all networks).
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the constructor of every subclass accept NumPy scalars."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = plain_numbers(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self._init_kwargs = dict(kwargs)

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Copy of the arguments of the constructor."""
        return dict(self._init_kwargs)

    @staticmethod
    @abstractmethod
    def closure(
        model: Any,
        data_dict: Mapping[str, Any],
        optimizers: Mapping[str, Any],
        criterions: Mapping[str, Any],
        metrics: Mapping[str, Any],
        fold: int = 0,
        batch_nr: int = 0,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Train on one prepared batch; without optimizers only evaluate.

        Returns
        -------
        tuple of (metric values, loss values, prediction)
            The losses contain their sum under ``"loss"``.
        """

    @staticmethod
    @abstractmethod
    def prepare_batch(batch: Mapping[str, Any], input_device: Any, output_device: Any) -> dict[str, Any]:
        """Convert the arrays of a batch to the input of :meth:`closure`, on the given devices."""


DEFAULT_KEYS = ("pred", "label")


def entry(named: Mapping[str, Any], key: str, owner: str) -> Any:
    """Return the named entry that ``owner`` uses as an argument.

    Raises
    ------
    UnknownNameError
        If there is no such entry.
    """
    if key not in named:
        raise UnknownNameError(f"{owner} is wired to {key!r}, which is not there. {did_you_mean(key, named)}")
    return named[key]


def named_values(batch: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Join the entries of a batch and the parts of a prediction.

    A part replaces an entry of the same name, except for ``"logits"``, which a batch for distillation may contain.
    """
    return {**batch, **{name: part for name, part in parts.items() if name != "logits" or name not in batch}}


def evaluate(
    functions: Mapping[str, Callable[..., Any]],
    named: Mapping[str, Any],
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """Call every function with its named arguments.

    Parameters
    ----------
    functions : dict
        Callables of tensors by name.
    named : dict
        Tensors by name: the parts of the prediction and the entries of the batch.
    keys : dict or None
        Names of the arguments of each function, by its name; ``("pred", "label")`` by default.

    Raises
    ------
    UnknownNameError
        If an argument is neither in the prediction nor in the batch.

    Examples
    --------
    >>> import torch
    >>> from torch.nn import functional as F
    >>> evaluate({"mse": F.mse_loss}, {"pred": torch.ones(2), "label": torch.zeros(2)})
    {'mse': tensor(1.)}
    """
    values = {}
    for name, function in functions.items():
        arguments = (keys or {}).get(name, DEFAULT_KEYS)
        values[name] = function(*[entry(named, key, repr(name)) for key in arguments])
    return values


def wired(
    functions: Mapping[str, Callable[..., Any]],
    named: Mapping[str, Any],
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Callable[..., Any]]:
    """Return the functions for which all arguments exist.

    Examples
    --------
    >>> list(wired({"mse": abs, "size": abs}, {"pred": 1.0}, {"size": ("pred",)}))
    ['size']
    """
    return {n: f for n, f in functions.items() if all(key in named for key in (keys or {}).get(n, DEFAULT_KEYS))}


def total_loss(losses: Mapping[str, Any]) -> Any:
    """Return the sum of the criterions.

    Raises
    ------
    ConfigError
        Without criterions, or if one of several is named ``"loss"``, the name of the sum.
    """
    if not losses:
        raise ConfigError("there is nothing to minimise: the trainer was given no criterions")
    if "loss" in losses and len(losses) > 1:
        raise ConfigError(f"'loss' is the name of the sum: call the criterion otherwise (criterions: {sorted(losses)})")
    values = iter(losses.values())
    total = next(values)
    for value in values:
        total = total + value
    return total


def declared_loss_names(network: Any) -> tuple[str, ...] | None:
    """Return the ``loss_names`` of a network; None if a class overrides ``loss`` without setting them."""
    if "loss_names" in vars(network):
        return tuple(network.loss_names or ())
    for cls in type(network).__mro__:
        if "loss_names" in vars(cls):
            return tuple(vars(cls)["loss_names"] or ())
        if "loss" in vars(cls):
            return None
    return None


def parts_of(prediction: Any) -> dict[str, Any]:
    """Return the parts of a network's output by name; see :meth:`AbstractPyTorchNetwork.forward_batch`.

    Examples
    --------
    >>> parts_of((1, 2)), parts_of({"logits": 3})
    ({'0': 1, '1': 2, 'pred': (1, 2)}, {'logits': 3})
    """
    if isinstance(prediction, Mapping):
        return dict(prediction)
    parts: dict[str, Any] = {}
    if isinstance(prediction, (tuple, list)):
        parts = {str(index): part for index, part in enumerate(prediction)}
        parts |= prediction._asdict() if hasattr(prediction, "_asdict") else {}
    elif dataclasses.is_dataclass(prediction):
        parts = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    only = parts.get("0") if isinstance(prediction, (tuple, list)) and len(prediction) == 1 else None
    return {**parts, "pred": parts.get("pred", prediction if only is None else only)}
