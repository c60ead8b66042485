"""Saving and loading of models with their descriptions, from separate files or checkpoints of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.errors import CheckpointError, ConfigError
from delira_nca.io.checkpoint import is_plain, load_checkpoint, save_checkpoint
from delira_nca.io.paths import absolute
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.description import class_of_package
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork

__all__ = ["describe_network", "load_network", "save_network"]


def describe_network(network: Any) -> dict[str, Any] | None:
    """Return the class path and arguments of a model; None if they are not plain values."""
    network = unwrapped(network)
    if not callable(getattr(network, "to_dict", None)):
        return None
    arguments = network.to_dict()
    if not is_plain(arguments):
        return None
    return {"class": f"{type(network).__module__}.{type(network).__qualname__}", "arguments": arguments}


def save_network(network: AbstractPyTorchNetwork, path: str | os.PathLike[str]) -> None:
    """Save the description and weights of a model, for :func:`load_network`.

    Raises
    ------
    CheckpointError
        If the model cannot be described by plain values, or the file cannot be written.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> path = getfixture("tmp_path") / "growing.pt"
    >>> save_network(BasicNCAModel(**presets.growing()), path)
    >>> load_network(path).num_trainable_parameters()
    8336
    """
    network = unwrapped(network)
    description = describe_network(network)
    if description is None:
        raise CheckpointError(
            f"{type(network).__name__} has arguments that are not plain values: save its state_dict()"
        )
    save_checkpoint({"model": description, "network": dict(network.state_dict())}, path)


def load_network(
    path: str | os.PathLike[str], cls: type[Any] = BasicNCAModel, *, best: bool = True, **modules: Any
) -> Any:
    """Load a model from a file of :func:`save_network` or a checkpoint of a run. No code in the file is executed.

    Parameters
    ----------
    path : str or path-like
        File to read.
    cls : type
        Class of the model. It is required only for user-defined classes.
    best : bool
        Whether to load the weights of the best epoch, if the run has one, instead of those of the last epoch.
    **modules : torch.nn.Module
        Perception, rule or head, if the model has user-defined ones.

    Returns
    -------
    AbstractPyTorchNetwork
        Model in evaluation mode, with the class and the dtype of the file.

    Raises
    ------
    CheckpointError
        If the file is not a readable checkpoint, does not describe its model, or has a model of another class.
    """
    state = load_checkpoint(path)
    described: Mapping[str, Any] | None = state.get("model")
    if described is None:
        raise CheckpointError(
            f"{absolute(path)} does not say of which model it is: make the model, and load its weights"
        )
    if not isinstance(described, Mapping) or {"class", "arguments"} - described.keys():
        raise CheckpointError(f"{absolute(path)} must describe its model by 'class' and 'arguments', not {described!r}")
    weights = (best and state.get("best_weights")) or state.get("network")
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{absolute(path)} has no weights: its entry 'network' is a {type(weights).__name__}")
    wanted = f"{cls.__module__}.{cls.__qualname__}"
    own = class_of_package(described["class"], AbstractPyTorchNetwork) if cls is BasicNCAModel else None
    if own is not None:
        cls = own
    elif described["class"] != wanted:
        raise CheckpointError(f"{absolute(path)} is of a {described['class']}, not a {wanted}: pass cls=...")
    try:
        if not modules:  # compare shapes on the meta device, before memory for a huge model is allocated
            with torch.device("meta"):
                _require_same_shapes(cls.from_dict(described["arguments"]), weights)
        network = cls.from_dict(described["arguments"], **modules)
        if len(dtypes := {w.dtype for w in weights.values() if isinstance(w, Tensor) and w.is_floating_point()}) == 1:
            network.to(dtypes.pop())
        network.load_state_dict(weights)
    except (ConfigError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{absolute(path)} does not fit a {cls.__name__} of this version: {error}") from error
    return network.eval()


def _require_same_shapes(network: nn.Module, weights: Mapping[str, Any]) -> None:
    for name, described in network.state_dict().items():
        if isinstance(described, Tensor) and isinstance(found := weights.get(name), Tensor):
            if found.shape != described.shape:
                raise ConfigError(
                    f"{name!r} has the shape {tuple(found.shape)}, its description {tuple(described.shape)}"
                )
        elif isinstance(described, Tensor):
            raise ConfigError(f"it has no tensor {name!r}")
