"""Debug mode: everything that would work in other processes works in this one, where a debugger can look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["DebugDisabled", "DebugEnabled", "debug_mode", "is_debug"]

_IS_DEBUG: ContextVar[bool] = ContextVar("delira_nca.debug", default=False)


@contextlib.contextmanager
def debug_mode(enabled: bool = True) -> Iterator[None]:
    """Build everything in this process inside the block, whatever number of processes was asked for.

    What is built is the same to the last bit: it depends on seeds, not on who works. The innermost block decides. A
    block holds for the thread (or the asyncio task) that entered it. Work that has begun stays where it began.

    Parameters
    ----------
    enabled : ``False`` turns the mode off inside the block, where an outer one had turned it on.

    Examples
    --------
    >>> with debug_mode():
    ...     is_debug()
    True
    >>> is_debug()
    False
    """
    token = _IS_DEBUG.set(bool(enabled))
    try:
        yield
    finally:
        _IS_DEBUG.reset(token)


def is_debug() -> bool:
    """Whether other processes are to be avoided here and now."""
    return _IS_DEBUG.get()


def DebugEnabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name that delira gave it
    """``debug_mode(True)``, by its name in delira."""
    return debug_mode(True)


def DebugDisabled() -> contextlib.AbstractContextManager[None]:  # noqa: N802  the name that delira gave it
    """``debug_mode(False)``, by its name in delira."""
    return debug_mode(False)
