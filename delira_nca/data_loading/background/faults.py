"""Errors of background processes."""

from __future__ import annotations

from delira_nca.errors import DeliraNCAError
from delira_nca.workers import WorkerTimeoutError

__all__ = ["EmptyQueueError", "TimeoutError"]


class TimeoutError(WorkerTimeoutError):  # noqa: A001  the name on ELEKTRONN2's API page
    """A result was not available in time. It is also a ``RuntimeError`` and a built-in ``TimeoutError``."""


class EmptyQueueError(DeliraNCAError, IndexError):
    """More results were requested than processes were started."""
