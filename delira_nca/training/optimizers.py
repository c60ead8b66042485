"""Creation of optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from delira_nca.errors import ConfigError

__all__ = ["OptimFn", "create_optims_default_pytorch", "make_optimizers", "require_plain_steps"]

OptimFn = Callable[..., "Mapping[str, Optimizer] | Optimizer"]


def create_optims_default_pytorch(
    model: nn.Module, optim_cls: type[Optimizer], **optim_params: Any
) -> dict[str, Optimizer]:
    """Create one optimizer, ``"default"``, for all parameters that require gradients.

    Examples
    --------
    >>> import torch
    >>> optimizers = create_optims_default_pytorch(nn.Linear(2, 1), torch.optim.Adam, lr=2e-3)
    >>> optimizers["default"].param_groups[0]["lr"]
    0.002
    """
    return {"default": optim_cls([p for p in model.parameters() if p.requires_grad], **optim_params)}


def make_optimizers(
    network: nn.Module, optim_fn: OptimFn, optimizer_cls: type[Optimizer], optimizer_params: Mapping[str, Any] | None
) -> dict[str, Optimizer]:
    """Create the optimizers of a network. A single optimizer returned by ``optim_fn`` is named ``"default"``.

    Raises
    ------
    ConfigError
        If ``optim_fn`` does not return optimizers, the parameters do not fit the class, or the network has nothing to
        train.
    """
    if not isinstance(optimizer_cls, type) or not issubclass(optimizer_cls, Optimizer):
        raise ConfigError(f"optimizer_cls is a class of torch.optim, not {optimizer_cls!r}")
    try:
        made = optim_fn(network, optimizer_cls, **(optimizer_params or {}))
    except (TypeError, ValueError) as error:
        name, params = optimizer_cls.__name__, dict(optimizer_params or {})
        raise ConfigError(f"{name} cannot be made with optimizer_params {params}: {error}") from error
    if not isinstance(made, (Optimizer, Mapping)) or made == {}:
        raise ConfigError(f"optim_fn gives an optimizer, or several by name, not {made!r}")
    optimizers = {"default": made} if isinstance(made, Optimizer) else dict(made)
    for name, optimizer in optimizers.items():
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(f"optim_fn gave a {type(optimizer).__name__} as optimizer {name!r}")
    return optimizers


def require_plain_steps(optimizers: Mapping[str, Optimizer], *, has_sparse_gradients: bool = False) -> None:
    """Raise an error for optimizers that evaluate the loss repeatedly within a step, or need sparse gradients.

    Parameters
    ----------
    optimizers : mapping of str to Optimizer
        Optimizers by name.
    has_sparse_gradients : bool
        Whether the network has layers with sparse gradients.

    Raises
    ------
    ConfigError
        For an optimizer such as LBFGS or SparseAdam, which requires a custom training step; or one that is capturable
        by a CUDA graph, on the CPU.

    Examples
    --------
    >>> import torch
    >>> require_plain_steps({"default": torch.optim.LBFGS(nn.Linear(2, 1).parameters())})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: optimizer 'default' is a LBFGS, whose step computes the loss several times: ...
    """
    for name, optimizer in optimizers.items():
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ConfigError(
                f"optimizer {name!r} is a {type(optimizer).__name__}, whose step computes the loss several times: "
                "override closure of the network, or choose another optimizer"
            )
        if isinstance(optimizer, torch.optim.SparseAdam) and not has_sparse_gradients:
            raise ConfigError(f"optimizer {name!r} is a SparseAdam, which needs sparse gradients: choose another one")
        for group in optimizer.param_groups:
            if group.get("capturable") and any(p.device.type == "cpu" for p in group["params"]):
                raise ConfigError(f"optimizer {name!r} has capturable=True, which needs weights on a GPU")
