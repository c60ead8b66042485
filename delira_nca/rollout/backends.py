"""Which way a roll-out is computed: back ends by name, and how one is chosen for a job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from delira_nca.errors import ConfigError, require_choice
from delira_nca.rollout.eager import Reference
from delira_nca.rollout.job import Job
from delira_nca.rollout.native import Native
from delira_nca.rollout.sparse import Sparse

__all__ = ["BACKENDS", "Backend", "choose", "current_backend", "register_backend", "set_backend", "using_backend"]

_log = logging.getLogger("delira_nca")


class Backend(Protocol):
    """A way to compute roll-outs. Every one is held against the reference, in values and in gradients."""

    @property
    def name(self) -> str:
        """Name for :func:`set_backend`."""
        ...

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine, or None."""
        ...

    def refusal(self, job: Job) -> str | None:
        """Why it cannot do this job, or None; asked only where it is available."""
        ...

    def states(self, job: Job) -> dict[int, Tensor]:
        """State after each of the job's stops, of which there is at least one."""
        ...


BACKENDS: dict[str, Backend] = {}
"""By name, in the order in which ``auto`` asks them."""

_chosen = "auto"
_told: set[str] = set()


def register_backend(backend: Backend, *, first: bool = False) -> None:
    """Add a back end under its name; one of the same name is replaced where it stands.

    Parameters
    ----------
    backend : to add.
    first : whether ``auto`` asks it before all others; it is asked last but the reference otherwise.
    """
    if backend.name in BACKENDS:
        BACKENDS[backend.name] = backend
        return
    others = dict(BACKENDS)
    BACKENDS.clear()
    last = {"reference": others.pop("reference")} if "reference" in others else {}
    BACKENDS.update({backend.name: backend, **others} if first else {**others, backend.name: backend})
    BACKENDS.update(last)


def set_backend(name: str) -> None:
    """Choose the back end of all roll-outs of this process.

    Parameters
    ----------
    name : ``"auto"`` takes the first that can do a job, of native, sparse and reference; a name insists on one.

    Raises
    ------
    UnknownNameError
        For a name that nothing is registered under.
    ConfigError
        If that back end cannot run on this machine, with the reason.

    Examples
    --------
    >>> set_backend("reference")
    >>> current_backend()
    'reference'
    >>> set_backend("auto")
    """
    global _chosen
    require_choice("back end", name, ["auto", *BACKENDS])
    if name != "auto" and (reason := BACKENDS[name].unavailable()) is not None:
        raise ConfigError(f"back end {name!r} cannot run here: {reason}")
    _chosen = name


def current_backend() -> str:
    """Name that :func:`set_backend` was given last; ``"auto"`` at first."""
    return _chosen


@contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Choose the back end within a ``with`` block."""
    before = current_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def choose(job: Job) -> Backend:
    """Back end for a job: the chosen one, or the first that can do it.

    A job that ``auto`` can give to the reference only is named once in the log, with the reasons.

    Raises
    ------
    ConfigError
        If a back end was insisted on that cannot do the job.
    """
    if _chosen != "auto":
        backend = BACKENDS[_chosen]
        if (reason := backend.refusal(job)) is not None:
            raise ConfigError(
                f"back end {_chosen!r} cannot do this roll-out: {reason}. set_backend('auto') takes one that can"
            )
        return backend
    reasons: dict[str, str] = {}
    for name, backend in BACKENDS.items():
        reason = backend.unavailable() or backend.refusal(job)
        if reason is None:
            if name == "reference" and reasons:
                _tell(type(job.cell).__name__, reasons)
            return backend
        reasons[name] = reason
    raise ConfigError(f"no back end can do this roll-out: {reasons}")


def _tell(cell: str, reasons: dict[str, str]) -> None:
    text = "; ".join(dict.fromkeys(reasons.values()))
    message = f"roll-outs of {cell} run on the reference back end, which is slower: {text}"
    if message not in _told:
        _told.add(message)
        _log.info(message)


for _backend in (Native(), Sparse(), Reference()):
    register_backend(_backend)
