"""Names under which losses and metrics are recorded. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from delira_nca.errors import ConfigError

__all__ = ["check_value_names"]

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
