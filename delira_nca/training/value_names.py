"""Names under which losses and metrics are recorded. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from delira_nca.errors import ConfigError

__all__ = ["check_value_names", "plain_values", "with_validation"]

_RESERVED = {
    "epoch": "the number of the epoch",
    "step": "the number of iterations",
    "lr": "the learning rate",
}
_PREFIXES = {"val_": "values of validation", "iter_": "values of single iterations"}


def check_value_names(
    criterions: Mapping[Any, Any], metrics: Mapping[Any, Any], optimizers: Iterable[str] = ()
) -> None:
    """Refuse names that would mix two numbers in the history and in the logs.

    Parameters
    ----------
    criterions, metrics : mapping of name to function
        Losses and metrics of a training.
    optimizers : iterable of str
        Names of the optimizers, whose learning rates are recorded as ``lr_<name>``.

    Raises
    ------
    ConfigError
        For a name that is no text or empty, that is reserved, or that a criterion and a metric share.

    Examples
    --------
    >>> check_value_names({"mse": abs}, {"epoch": abs})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: metric 'epoch' has the name of the number of the epoch: choose another name
    """
    rates = {f"lr_{name}": f"the learning rate of optimizer {name!r}" for name in optimizers}
    for what, names in (("criterion", criterions), ("metric", metrics)):
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise ConfigError(f"the name of a {what} is a text that is not empty, not {name!r}")
            meaning = {**_RESERVED, **rates}.get(name)
            if name == "loss" and (what == "metric" or len(criterions) > 1):
                meaning = "the sum of all criterions"
            if meaning is not None:
                raise ConfigError(f"{what} {name!r} has the name of {meaning}: choose another name")
            for prefix, values in _PREFIXES.items():
                if name.startswith(prefix):
                    raise ConfigError(
                        f"{what} {name!r} begins with {prefix!r}, which marks {values}: choose another name"
                    )
    if shared := sorted(criterions.keys() & metrics.keys()):
        raise ConfigError(f"{shared[0]!r} is the name of a criterion and of a metric: choose two names")


def plain_values(values: Any, routine: str) -> dict[str, float]:
    """Values of an epoch as plain numbers; those that are None are left out.

    Parameters
    ----------
    values : mapping of name to number
        What a routine of training or validation returned.
    routine : str
        Name of the routine, for the message.

    Raises
    ------
    ConfigError
        If it is no mapping, or a value is not one number.

    Examples
    --------
    >>> plain_values({"loss": 1, "dice": None}, "_train_single_epoch")
    {'loss': 1}
    >>> plain_values(0.5, "_train_single_epoch")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: _train_single_epoch has to return a dict of name to number, or None, not 0.5
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{routine} has to return a dict of name to number, or None, not {values!r}")
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            numbers[name] = value if type(value) in (bool, int, float) else float(value.item())
        except (AttributeError, TypeError, ValueError, RuntimeError):
            raise ConfigError(f"{routine} returned {value!r} as {name!r}: it has to be one number") from None
    return numbers


def with_validation(training: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, float]:
    """Values of an epoch together, those of validation with the prefix ``val_``, which they may have already.

    Raises
    ------
    ConfigError
        If two values get the same name.

    Examples
    --------
    >>> with_validation({"loss": 1.0}, {"val_loss": 2.0, "dice": 0.5})
    {'loss': 1.0, 'val_loss': 2.0, 'val_dice': 0.5}
    """
    joined = dict(training)
    for name, value in validation.items():
        name = f"val_{name.removeprefix('val_')}"
        if name in joined:
            raise ConfigError(f"two values of an epoch are called {name!r}: give one of them another name")
        joined[name] = value
    return joined
