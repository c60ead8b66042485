"""Functions as a callback. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delira_nca.checks import require_callable
from delira_nca.errors import CallbackError, did_you_mean
from delira_nca.training.callbacks.abstract_callback import HOOKS, AbstractCallback

__all__ = ["LambdaCallback"]


class LambdaCallback(AbstractCallback):
    """Callback made of functions.

    Parameters
    ----------
    **hooks : name of a hook to a function ``(trainer, **event)``, which takes the keywords that it wants.

    Raises
    ------
    CallbackError
        For a name that is no hook, or a value that cannot be called.

    Examples
    --------
    >>> seen = []
    >>> callback = LambdaCallback(at_epoch_end=lambda trainer, curr_epoch: seen.append(curr_epoch))
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise CallbackError(f"{name!r} is no hook. {did_you_mean(name, HOOKS)}")
            require_callable(name, function, error=CallbackError)
            setattr(self, name, function)
        self._hooks = sorted(hooks)

    def __repr__(self) -> str:
        return f"LambdaCallback({', '.join(self._hooks)})"
