"""Table of the callbacks of a trainer and their hooks. Does not import torch."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from delira_nca.errors import CallbackError, CallbackTypeError, CheckpointError, DeliraNCAError, did_you_mean
from delira_nca.training.callbacks.abstract_callback import HOOKS, AbstractCallback, bind_run, keyed, rename_run, reset

__all__ = ["CallbackTable"]

_LOGGER = logging.getLogger("delira_nca")


class CallbackTable:
    """Callbacks in the order of registration, and the callbacks that override each hook."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self._table: dict[str, list[tuple[Any, Callable[..., Any], frozenset[str]]]] = {hook: [] for hook in HOOKS}

    def add(self, callback: Any, *, listens: bool = True) -> None:
        """Register a callback: an :class:`AbstractCallback`, or an object with ``at_epoch_begin`` and ``at_epoch_end``.

        Parameters
        ----------
        callback : object
            Callback to register.
        listens : bool
            Whether its hooks are called. Its state is saved in any case.

        Raises
        ------
        CallbackTypeError
            If it is neither, or a class instead of an object.
        CallbackError
            If a hook requires a keyword that is not passed, or does not accept the trainer.
        """
        duck = all(callable(getattr(callback, hook, None)) for hook in ("at_epoch_begin", "at_epoch_end"))
        if isinstance(callback, type) or not (isinstance(callback, AbstractCallback) or duck):
            raise CallbackTypeError(
                f"{callback!r} is not a callback: derive from AbstractCallback, or have both at_epoch_begin and "
                "at_epoch_end, and register an object of the class"
            )
        rows = [(hook, getattr(callback, hook)) for hook in HOOKS if self._overrides(callback, hook)]
        accepted = {hook: self._accepted_keywords(callback, hook, method) for hook, method in rows}
        self.callbacks.append(callback)
        for hook, method in rows if listens else ():
            self._table[hook].append((callback, method, accepted[hook]))

    @staticmethod
    def _overrides(callback: Any, hook: str) -> bool:
        if not isinstance(callback, AbstractCallback):
            return callable(getattr(callback, hook, None))
        return getattr(type(callback), hook) is not getattr(AbstractCallback, hook) or hook in vars(callback)

    @staticmethod
    def _accepted_keywords(callback: Any, hook: str, method: Callable[..., Any]) -> frozenset[str]:
        parameters = list(inspect.signature(method).parameters.values())
        if not parameters or parameters[0].kind in (parameters[0].KEYWORD_ONLY, parameters[0].VAR_KEYWORD):
            raise CallbackError(f"{type(callback).__name__}.{hook} takes no trainer: a hook is called with it first")
        del parameters[0]
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return HOOKS[hook]
        for p in parameters:
            if p.name not in HOOKS[hook] and p.default is p.empty and p.kind is not p.VAR_POSITIONAL:
                raise CallbackError(
                    f"{type(callback).__name__}.{hook} asks for {p.name!r}, which this hook is not given. "
                    f"{did_you_mean(p.name, HOOKS[hook])}"
                )
        return HOOKS[hook] & {p.name for p in parameters}

    def listens(self, hook: str) -> bool:
        """Whether any callback overrides a hook."""
        return bool(self._table[hook])

    def names_at(self, hook: str) -> list[str]:
        """Class names of the callbacks of a hook, in order."""
        return [type(callback).__name__ for callback, _, _ in self._table[hook]]

    def call(self, hook: str, trainer: object, event: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Call a hook of all callbacks that override it; yield their names and return values.

        Raises
        ------
        CallbackError
            If a callback raises an exception, which is chained. The message names callback and hook. Errors of the
            package are not wrapped.
        """
        for callback, method, accepted in self._table[hook]:
            returned = self._call_one(callback, hook, method, trainer, {k: event[k] for k in accepted})
            if returned:
                yield type(callback).__name__, returned

    def call_all(self, hook: str, trainer: object, event: Mapping[str, Any]) -> list[Exception]:
        """Call a hook of all callbacks, even if some fail; log the exceptions and return them."""
        errors: list[Exception] = []
        for callback, method, accepted in self._table[hook]:
            try:
                self._call_one(callback, hook, method, trainer, {k: event[k] for k in accepted})
            except Exception as error:
                _LOGGER.exception("%s failed in %s", type(callback).__name__, hook)
                errors.append(error)
        return errors

    @staticmethod
    def _call_one(
        callback: Any, hook: str, method: Callable[..., Any], trainer: object, event: Mapping[str, Any]
    ) -> Any:
        try:
            returned = method(trainer, **event)
        except DeliraNCAError:
            raise
        except Exception as error:
            message = f"callback {type(callback).__name__} failed in {hook}: {type(error).__name__}: {error}"
            raise CallbackError(message) from error
        if returned is not None and not isinstance(returned, Mapping):
            name = type(callback).__name__
            raise CallbackError(f"{name}.{hook} returned {returned!r}: a hook returns None or a dict of trainer state")
        return returned

    def begin_run(self, run_id: str, *, has_begun: bool = False) -> None:
        """Assign all callbacks with a state to a run; see :func:`bind_run`."""
        for _, callback in keyed(self.callbacks):
            if hasattr(callback, "load_state_dict"):
                bind_run(callback, run_id, has_begun=has_begun)

    def rename_run(self, run_id: str) -> None:
        """Change the identifier of the run, in a distributed training to that of the main rank."""
        for _, callback in keyed(self.callbacks):
            rename_run(callback, run_id)

    def state_dict(self) -> dict[str, Any]:
        """State of every callback with a state, by name."""
        return {key: state for key, callback in keyed(self.callbacks) if (state := callback.state_dict())}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Load the state of each callback.

        A callback without a saved state is reset, and a saved state without a callback is ignored. Both are logged,
        since the run does not continue exactly as before.

        Raises
        ------
        CheckpointError
            If a state does not fit. All callbacks then keep their former states.
        """
        callbacks = dict(keyed(self.callbacks))
        absent = [key for key, callback in callbacks.items() if key not in states and callback.state_dict()]
        for key in sorted(states.keys() - callbacks.keys()):
            _LOGGER.warning("the checkpoint holds a state of callback %s, which is not registered", key)
        former: dict[str, Any] = {}
        for key, callback in callbacks.items():
            if key in states:
                former[key] = callback.state_dict()
                try:
                    callback.load_state_dict(states[key])
                except Exception as error:
                    for done in list(former)[:-1]:
                        callbacks[done].load_state_dict(former[done])
                    if isinstance(error, DeliraNCAError):
                        raise
                    raise CheckpointError(f"callback {key} cannot take up its saved state: {error}") from error
        for key in absent:
            reset(callbacks[key])
            _LOGGER.warning("callback %s has no state in the checkpoint and starts anew", key)
