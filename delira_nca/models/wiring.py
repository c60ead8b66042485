"""Which named tensors a criterion or a metric is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean

__all__ = ["DEFAULT_KEYS", "entry", "evaluate", "total_loss", "wired"]

DEFAULT_KEYS = ("pred", "label")


def entry(named: Mapping[str, Any], key: str, owner: str) -> Any:
    """Take what somebody is wired to.

    Raises
    ------
    UnknownNameError
        If it is not there.
    """
    if key not in named:
        raise UnknownNameError(f"{owner} is wired to {key!r}, which is not there. {did_you_mean(key, named)}")
    return named[key]


def evaluate(
    functions: Mapping[str, Callable[..., Tensor]],
    named: Mapping[str, Any],
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Tensor]:
    """Call every function with the tensors that it is wired to.

    Parameters
    ----------
    functions : name to a callable of tensors.
    named : all tensors by name: the parts of the prediction and the entries of the batch.
    keys : name of a function to the names of its arguments; ``("pred", "label")`` where nothing is said.

    Raises
    ------
    UnknownNameError
        If a name is neither in the prediction nor in the batch.

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
    """Those functions whose arguments are all there.

    Examples
    --------
    >>> list(wired({"mse": abs, "size": abs}, {"pred": 1.0}, {"size": ("pred",)}))
    ['size']
    """
    return {n: f for n, f in functions.items() if all(key in named for key in (keys or {}).get(n, DEFAULT_KEYS))}


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of the criterions.

    Raises
    ------
    ConfigError
        If there is no criterion, or one of several is itself called ``"loss"``, the name of the sum.
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
