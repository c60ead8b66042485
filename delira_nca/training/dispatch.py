"""Who is called at which hook: the table of a trainer's callbacks. Free of torch."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from delira_nca.errors import CallbackError, CallbackTypeError, CheckpointError, DeliraNCAError, did_you_mean
from delira_nca.training.callbacks.abstract_callback import HOOKS, AbstractCallback, bind_run, keyed, rename_run

__all__ = ["CallbackTable"]

_LOGGER = logging.getLogger("delira_nca")


class CallbackTable:
    """Callbacks in the order of registration, and for each hook those that override it."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self._table: dict[str, list[tuple[Any, Callable[..., Any], frozenset[str]]]] = {hook: [] for hook in HOOKS}

    def add(self, callback: Any, *, listens: bool = True) -> None:
        """Register a callback: an :class:`AbstractCallback`, or anything with ``at_epoch_begin`` and ``at_epoch_end``.

        Parameters
        ----------
        callback : object
            To register.
        listens : bool
            Whether it is called; its state is kept in any case.

        Raises
        ------
        CallbackTypeError
            If it is neither, or a class instead of an object.
        CallbackError
            If a hook asks for a keyword that it will not be given, or does not take the trainer.
        """
        duck = all(callable(getattr(callback, hook, None)) for hook in ("at_epoch_begin", "at_epoch_end"))
        if isinstance(callback, type) or not (isinstance(callback, AbstractCallback) or duck):
            raise CallbackTypeError(
                f"{callback!r} is no callback: derive from AbstractCallback, or have both at_epoch_begin and "
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
        """Whether anybody overrides a hook."""
        return bool(self._table[hook])

    def names_at(self, hook: str) -> list[str]:
        """Class names of those called at a hook, in order."""
        return [type(callback).__name__ for callback, _, _ in self._table[hook]]

    def call(self, hook: str, trainer: object, event: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Call a hook of everyone who overrides it, and yield what they return, each with the callback's name.

        Raises
        ------
        CallbackError
            If a callback raises; it names callback and hook, and the cause is chained. The package's own errors pass
            as they are.
        """
        for callback, method, accepted in self._table[hook]:
            returned = self._call_one(callback, hook, method, trainer, {k: event[k] for k in accepted})
            if returned:
                yield type(callback).__name__, returned

    def call_all(self, hook: str, trainer: object, event: Mapping[str, Any]) -> list[Exception]:
        """Call a hook of everyone, even where some fail; log the failures and return them."""
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
        """Let every callback with a state serve a run; see :func:`bind_run`."""
        for _, callback in keyed(self.callbacks):
            if hasattr(callback, "load_state_dict"):
                bind_run(callback, run_id, has_begun=has_begun)

    def rename_run(self, run_id: str) -> None:
        """Give the run that the callbacks serve another identifier: that of the main process of several."""
        for _, callback in keyed(self.callbacks):
            rename_run(callback, run_id)

    def state_dict(self) -> dict[str, Any]:
        """State of every callback that has one."""
        return {key: state for key, callback in keyed(self.callbacks) if (state := callback.state_dict())}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Hand each callback its state.

        A callback without a saved state keeps its own, and a saved state without a callback is left; both are logged,
        since the run does not go on exactly as it was.

        Raises
        ------
        CheckpointError
            If a state does not fit; all callbacks have the states they had before then.
        """
        callbacks = dict(keyed(self.callbacks))
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
            elif callback.state_dict():
                _LOGGER.warning("callback %s has no state in the checkpoint and starts anew", key)
