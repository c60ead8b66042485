"""A trained automaton in a file of its own, or out of the checkpoint of a run: description and weights."""

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
    """Class path and arguments of a model; None of a network that cannot be described by plain values."""
    network = unwrapped(network)
    if not callable(getattr(network, "to_dict", None)):
        return None
    arguments = network.to_dict()
    if not is_plain(arguments):
        return None
    return {"class": f"{type(network).__module__}.{type(network).__qualname__}", "arguments": arguments}


def save_network(network: AbstractPyTorchNetwork, path: str | os.PathLike[str]) -> None:
    """Write a model with its weights, for :func:`load_network`.

    Raises
    ------
    CheckpointError
        If it cannot be described by plain values, or the file cannot be written.

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
    """Model out of a file of :func:`save_network` or a checkpoint of a run, ready to predict. Nothing is executed.

    Parameters
    ----------
    path : of the file.
    cls : class of the model, where it is one of the user's own; those of the package are known by their names.
    best : whether to take the weights of the run's best epoch, where a score decided one, and not those of the last.
    **modules : perception, rule or head, where they are modules of the user's own.

    Returns
    -------
    The model, of the class that the file names and with weights of the dtype that was saved.

    Raises
    ------
    CheckpointError
        If the file is not a readable checkpoint, does not describe its model, or is of another class.
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
        if not modules:  # a description of a huge model is refused before its memory is allocated
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
