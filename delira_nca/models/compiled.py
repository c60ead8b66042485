"""Remove the wrappers of ``torch.compile`` from networks."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["unwrapped"]


def unwrapped(module: Any) -> Any:
    """Remove the wrappers of ``torch.compile`` from a module and all its submodules.

    The names of the weights then lack the prefix ``_orig_mod``. Calls stay compiled, as after
    :meth:`torch.nn.Module.compile`. Anything but a module is returned unchanged.

    Parameters
    ----------
    module : torch.nn.Module
        Module, compiled or not. Its compiled submodules are replaced in place.

    Returns
    -------
    torch.nn.Module
        The original module of a compiled one, else ``module``.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(torch.compile(nn.Linear(2, 3), backend="eager"), nn.ReLU())
    >>> list(unwrapped(network).state_dict())
    ['0.weight', '0.bias']
    """
    if not isinstance(module, nn.Module):
        return module
    while isinstance(original := module._modules.get("_orig_mod"), nn.Module):
        original._compiled_call_impl = module.dynamo_ctx(original._call_impl)  # type: ignore[operator]
        module = original
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                parent._modules[name] = unwrapped(child)
    return module
